#!/bin/sh
# diffusers 0.42.1 with peft 0.21.2: a LoRA on attention and other layers of a UNet, saved by diffusers' own
# convert_state_dict_to_diffusers and save_lora_weights, loses its attention layers in load_lora_weights, without an
# error. The converter renames attention layers alone, and the loader judges all names by the first of them.
# Prints how many of the trained layers come back; fails where all do.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1 transformers==5.24.0 peft==0.21.2 accelerate==1.15.0
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys

import diffusers
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict


def unet():
    return UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )


def adapted(network):
    return {name for name, layer in network.named_modules() if isinstance(layer, LoraLayer)}


trained, other = unet(), unet()
trained.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out"]))
layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(trained))
StableDiffusionLoraLoaderMixin.save_lora_weights(sys.argv[1], unet_lora_layers=layers)
state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(sys.argv[1])
StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, alphas, other)
before, after = adapted(trained), adapted(other)
attention = sum("attn" in name for name in before)
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}: {len(after)} of {len(before)} layers come back;")
print(f"of {attention} attention layers {sum('attn' in name for name in after & before)}")
sys.exit(0 if len(after & before) < len(before) else "all layers come back: this is mended")
PYTHON
