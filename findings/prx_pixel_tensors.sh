#!/bin/sh
# diffusers 0.42.1: PRXPixelPipeline's pictures for output_type="pt" are what was diffused, in [-1, 1] and not clamped;
# its "np" pictures of the same seed are in [0, 1].
# Prints the ranges of both for one seed; fails where they agree.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0 ftfy==6.3.1
"$work/env/bin/python" - <<'PYTHON'
import sys

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, PRXPixelPipeline, PRXTransformer2DModel
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

torch.manual_seed(0)
words = Tokenizer(models.WordLevel({"<pad>": 0, "dog": 1}, unk_token="<pad>"))
pipeline = PRXPixelPipeline(
    transformer=PRXTransformer2DModel(
        in_channels=3, patch_size=2, context_in_dim=32, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1,
        axes_dim=[8, 8],
    ),
    scheduler=FlowMatchEulerDiscreteScheduler(),
    text_encoder=T5EncoderModel(T5Config(vocab_size=2, d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
    tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", model_max_length=4),
)
pipeline.set_progress_bar_config(disable=True)
found = {}
for form in ("pt", "np"):
    picture = pipeline(
        "dog", height=16, width=16, num_inference_steps=2, use_resolution_binning=False, output_type=form,
        generator=torch.Generator().manual_seed(0),
    ).images
    found[form] = float(picture.min()), float(picture.max())
    print(f"diffusers {diffusers.__version__}, output_type={form!r}: {found[form][0]:.2f} to {found[form][1]:.2f}")
sys.exit(0 if found["pt"][0] < 0 <= found["np"][0] else "both are in [0, 1]: this is mended")
PYTHON
