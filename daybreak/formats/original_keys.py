"""Names of the layers of Stable Diffusion 1, 2 and XL as their authors' code has them (CompVis, Stability AI).

diffusers has other names. The first are in single files, which ComfyUI, A1111 and Forge open, and in LoRA files for XL.
"""

from __future__ import annotations

import re
from typing import Any

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2", "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
VAE_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}
CLIP_LAYERS = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def unet_key(key: str, config: Any) -> str:
    """A layer or tensor of a UNet2DConditionModel of this configuration. KeyError for one that they have not."""
    for ours, theirs in UNET.items():
        if key == ours or key.startswith(f"{ours}."):
            name = theirs + key.removeprefix(ours)
            return _resnet(name) if ".resnets." in f".{ours}." else name
    found = BLOCK.fullmatch(key)
    if found is None:
        raise KeyError(key)
    side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    layers = config.layers_per_block
    if not isinstance(layers, int):
        raise KeyError(key)
    if side == "down":
        place = 1 + block * (layers + 1) + (layers if kind == "downsamplers" else layer)
        part = 1 if kind == "attentions" else 0
        rest = re.sub("^conv", "op", rest) if kind == "downsamplers" else rest
        name = f"input_blocks.{place}.{part}.{rest}"
    else:
        place = block * (layers + 1) + (layers if kind == "upsamplers" else layer)
        after = 2 if "CrossAttn" in config.up_block_types[block] else 1
        part = {"resnets": 0, "attentions": 1, "upsamplers": after}[kind]
        name = f"output_blocks.{place}.{part}.{rest}"
    return _resnet(name) if kind == "resnets" else name


def _resnet(name: str) -> str:
    for ours, theirs in RESNET.items():
        name = re.sub(rf"\.{ours}(?=\.|$)", f".{theirs}", name)
    return name


def vae_key(key: str, blocks: int) -> str:
    """A tensor of an AutoencoderKL of so many blocks."""
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = key.replace("mid_block.attentions.0", "mid.attn_1")
    key = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", key)
    if ".attn_1." in key:
        for ours, theirs in VAE_ATTENTION.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
    return key


def open_clip_key(key: str) -> str:
    """A tensor of transformers' CLIP text model, without `text_model.`, as OpenCLIP has it.

    Queries, keys and values, which OpenCLIP holds in one tensor, are no matter of names: KeyError.
    """
    if key in OPEN_CLIP:
        return OPEN_CLIP[key]
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", key)
    if found is None or found[2] not in CLIP_LAYERS:
        raise KeyError(key)
    return f"transformer.resblocks.{found[1]}.{CLIP_LAYERS[found[2]]}.{found[3]}"
