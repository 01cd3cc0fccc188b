#!/bin/sh
# diffusers 0.42.1 with transformers 5.24.0: a PRXPipeline with T5Gemma's encoder, in the form in which it is published,
# opens; saved by its own save_pretrained it does not open again. model_index.json then names diffusers as the encoder's
# library, which has no such class, and the encoder's config.json no longer describes the whole T5Gemma.
# Prints what is written before and after, and the error; fails where it opens.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0 ftfy==6.3.1
"$work/env/bin/python" - "$work/published" "$work/saved" <<'PYTHON'
import json
import sys
from pathlib import Path

import diffusers
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXTransformer2DModel
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

published, saved = map(Path, sys.argv[1:])
words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<bos>": 2}, unk_token="<pad>"))
half = T5GemmaModuleConfig(
    hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
    head_dim=16, vocab_size=3, pad_token_id=0, eos_token_id=1, bos_token_id=2,
)
whole = T5GemmaConfig(encoder=half, decoder=half, vocab_size=3)
PRXPipeline(
    transformer=PRXTransformer2DModel(
        in_channels=4, patch_size=2, context_in_dim=32, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[8, 8],
    ),
    scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=T5GemmaEncoder(whole.encoder),
    tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"),
    vae=AutoencoderKL(norm_num_groups=4, block_out_channels=(8,), latent_channels=4), default_sample_size=16,
).save_pretrained(published)
whole.save_pretrained(published / "text_encoder")  # as the published folders have it
PRXPipeline.from_pretrained(published).save_pretrained(saved)
print(f"diffusers {diffusers.__version__}, transformers {transformers.__version__}")
for folder in (published, saved):
    index = json.loads((folder / "model_index.json").read_text())["text_encoder"]
    kind = json.loads((folder / "text_encoder" / "config.json").read_text())["model_type"]
    print(f"{folder.name}: text_encoder {index}, its config a {kind}")
try:
    PRXPipeline.from_pretrained(saved)
except (ValueError, RuntimeError) as error:
    print("opening:", error)
    sys.exit(0)
sys.exit("it opens: this is mended")
PYTHON
