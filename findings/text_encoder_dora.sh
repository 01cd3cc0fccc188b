#!/bin/sh
# transformers 5.24.0 with peft 0.21.2: load_adapter drops the DoRA magnitudes of a text encoder under the names that
# peft's get_peft_model_state_dict gives them (...lora_magnitude_vector), without an error; it reads them when ".weight"
# is put behind the names. Prints how far the magnitudes are from the saved ones; fails where both forms load.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0
"$work/env/bin/python" - <<'PYTHON'
import sys

import peft
import torch
import transformers
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextConfig, CLIPTextModel

sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
config = CLIPTextConfig(**sizes, vocab_size=4, max_position_embeddings=8)
lora = LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
torch.manual_seed(0)
base = CLIPTextModel(config)
trained = CLIPTextModel(config)
trained.load_state_dict(base.state_dict())
inject_adapter_in_model(lora, trained)
with torch.no_grad():
    for name, parameter in trained.named_parameters():
        if "magnitude" in name:
            parameter.mul_(1.5)
saved = get_peft_model_state_dict(trained)
apart = {}
for form in ("as peft names it", "with .weight behind"):
    model = CLIPTextModel(config)
    model.load_state_dict(base.state_dict())
    names = {k: k + ".weight" if "magnitude" in k and form.startswith("with") else k for k in saved}
    model.load_adapter(peft_config=lora, adapter_state_dict={names[k]: v for k, v in saved.items()})
    loaded = get_peft_model_state_dict(model)
    apart[form] = max((loaded[k] - v).abs().max().item() for k, v in saved.items() if "magnitude" in k)
print(f"transformers {transformers.__version__}, peft {peft.__version__}: magnitudes are apart by {apart}")
first, second = apart.values()
sys.exit(0 if first > 0.01 and second == 0 else "both forms load, or neither does: this has changed")
PYTHON
