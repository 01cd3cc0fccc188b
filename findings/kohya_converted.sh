#!/bin/sh
# diffusers 0.42.1 with peft 0.21.2: convert_state_dict_to_kohya writes the rank as every layer's alpha, so that a LoRA
# of another alpha is applied at another strength by whatever reads the file; and it leaves DoRA's magnitudes under
# peft's name, since it renames them to dora_scale only in layers of neither a UNet nor a text encoder.
# Prints the alphas and the names it writes; fails where neither is so.
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
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",), attention_head_dim=4,
    )


def drawn(network):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network(noise, 500, torch.ones(1, 3, 16)).sample


def trained(dora):
    network = unet()
    network.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_v"], use_dora=dora))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01, generator=torch.Generator().manual_seed(len(name)))
    state = {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(network).items()}
    return network, convert_state_dict_to_kohya(state)


network, converted = trained(dora=False)
alphas = {tensor.item() for name, tensor in converted.items() if name.endswith(".alpha")}
print(f"diffusers {diffusers.__version__}: rank 2, lora_alpha 8; alphas written: {alphas};", end=" ")
save_file(converted, f"{sys.argv[1]}/lora.safetensors")
other = unet()
state, networks = StableDiffusionLoraLoaderMixin.lora_state_dict(sys.argv[1], weight_name="lora.safetensors")
StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, networks, other)
base = drawn(unet())
share = ((drawn(other) - base).norm() / (drawn(network) - base).norm()).item()
print(f"read again it changes the output {share:.2f} times as much")
names = {name.rpartition(".")[2] for name in trained(dora=True)[1] if "magnitude" in name or "dora" in name}
print(f"DoRA's magnitudes are called {names or 'nothing'}")
sys.exit(0 if alphas == {2} or "dora_scale" not in names else "alpha and dora_scale are written: this is mended")
PYTHON
