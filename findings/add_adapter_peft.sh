#!/bin/sh
# transformers 5.24.0: add_adapter refuses the newest peft that there is, 0.21.2, and asks for 0.22.0, which is not
# released; load_adapter works with it (text_encoder_dora.sh), and so does peft's own inject_adapter_in_model.
# Prints the error; fails where add_adapter works.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0
"$work/env/bin/python" - <<'PYTHON'
import sys

import peft
import transformers
from peft import LoraConfig, inject_adapter_in_model
from transformers import CLIPTextConfig, CLIPTextModel

sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
config = CLIPTextConfig(**sizes, vocab_size=4, max_position_embeddings=8)
lora = LoraConfig(r=2, target_modules=["q_proj"])
inject_adapter_in_model(lora, CLIPTextModel(config))
print(f"transformers {transformers.__version__}, peft {peft.__version__}: inject_adapter_in_model works;", end=" ")
try:
    CLIPTextModel(config).add_adapter(lora)
except (ValueError, ImportError) as error:
    print("add_adapter:", error)
    sys.exit(0)
sys.exit("add_adapter works: this is mended")
PYTHON
