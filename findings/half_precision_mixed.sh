#!/bin/sh
# diffusers 0.42.1 with transformers 5.24.0: a Stable Diffusion pipeline that was saved in half precision and is opened
# without a dtype has a float32 UNet beside a half-precision text encoder, and raises when it draws.
# Prints the dtypes and the error; fails where it draws.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 accelerate==1.15.0
"$work/env/bin/python" - "$work/saved" <<'PYTHON'
import sys

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "dog</w>"]
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
text = CLIPTextConfig(**sizes, vocab_size=4, max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1)
StableDiffusionPipeline(
    vae=AutoencoderKL(norm_num_groups=4, block_out_channels=(8,), latent_channels=4),
    text_encoder=CLIPTextModel(text),
    tokenizer=CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=8),
    unet=UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), attention_head_dim=4,
    ),
    scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
).to(torch.float16).save_pretrained(sys.argv[1])

pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1])
pipeline.set_progress_bar_config(disable=True)
print(f"diffusers {diffusers.__version__}, transformers {transformers.__version__}:", end=" ")
print(f"UNet {pipeline.unet.dtype}, text encoder {pipeline.text_encoder.dtype}")
try:
    pipeline("a dog", num_inference_steps=1)
except RuntimeError as error:
    print("drawing:", error)
    sys.exit(0)
sys.exit("it draws: this is mended")
PYTHON
