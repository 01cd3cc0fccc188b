"""A Stable Diffusion pipeline as the one file that CompVis' code, and the sites where models are shared, have it in."""

import re
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "conv_in.": "input_blocks.0.0.", "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.", "conv_norm_out.": "out.0.", "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.", "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}  # fmt: skip
VAE_ATTENTION = {"to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out.", "group_norm.": "norm."}


def save_single_file(pipeline, path: Path) -> Path:
    """For a UNet and an autoencoder of two blocks."""
    unet = {unet_key(k, pipeline.unet.config.layers_per_block): v for k, v in pipeline.unet.state_dict().items()}
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet.items()}
    for key, tensor in pipeline.vae.state_dict().items():
        name = vae_key(key)
        square = ".attn_1." in name and tensor.ndim == 2
        tensors[f"first_stage_model.{name}"] = tensor[:, :, None, None] if square else tensor
    for key, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = tensor
    written: dict[str, Tensor] = {k: v.contiguous() for k, v in tensors.items()}
    save_file(written, path)
    return path


def unet_key(key: str, layers: int) -> str:
    for ours, theirs in UNET.items():
        key = re.sub(f"^{re.escape(ours)}", theirs, key)
    if found := re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", key):
        side, block, kind, layer, rest = found.groups()
        b, n = int(block), int(layer)
        if side == "down":
            place = 1 + b * (layers + 1) + (layers if kind == "downsamplers" else n)
            part = {"resnets": "0.", "attentions": "1.", "downsamplers": "0."}[kind]
            key = f"input_blocks.{place}.{part}{rest.replace('conv.', 'op.') if kind == 'downsamplers' else rest}"
        else:
            place = b * (layers + 1) + (layers if kind == "upsamplers" else n)
            part = {"resnets": "0.", "attentions": "1.", "upsamplers": "2." if b == 0 else "1."}[kind]
            key = f"output_blocks.{place}.{part}{rest}"
    if re.match(r"(input|output)_blocks\.\d+\.0\.|middle_block\.[02]\.", key):
        for ours, theirs in RESNET.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
    return key


def vae_key(key: str) -> str:
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = key.replace("mid_block.attentions.0", "mid.attn_1")
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{1 - int(m[1])}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{1 - int(m[1])}.upsample", key)
    if ".attn_1." in key:
        for ours, theirs in VAE_ATTENTION.items():
            key = key.replace(ours, theirs)
    return key
