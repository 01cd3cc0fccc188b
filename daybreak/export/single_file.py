"""A fine-tuned Stable Diffusion 1, 2 or XL as one .safetensors in its authors' layout, for ComfyUI, A1111 and Forge.

The names are in formats/original_keys.py. Of a model that predicts v, or begins in pure noise, XL's file holds the
marks that these programs look for; of Stable Diffusion 2 they are told by hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from daybreak import __version__
from daybreak.config import ConfigError
from daybreak.formats.original_keys import open_clip_key, unet_key, vae_key

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = {
    "v1": ("cond_stage_model.transformer.text_model.",),
    "v2": ("cond_stage_model.model.",),
    "xl": ("conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."),
}
"""Where the text encoders stand: CLIP as transformers names it, or, before `model.`, OpenCLIP."""
ARCHITECTURES = {"v1": "stable-diffusion-v1", "v2": "stable-diffusion-v2", "xl": "stable-diffusion-xl-v1-base"}
V2_WIDTH = 1024
"""Of the text that Stable Diffusion 2 reads; of 1 it is 768 wide."""


def write_single_file(pipeline: Any, path: Path, dtype: torch.dtype, title: str) -> int:
    """Writes the pipeline's networks; complete, or not at all. Returns bytes. ConfigError for what has no such layout.

    title: what programs show.
    """
    generation = generation_of(pipeline)
    tensors = original_tensors(pipeline, generation)
    scheduler = pipeline.scheduler.config
    of_v = scheduler.get("prediction_type", "epsilon") == "v_prediction"
    header = {
        "format": "pt",
        "daybreak": __version__,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": ARCHITECTURES[generation],
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": title,
        "modelspec.prediction_type": "v" if of_v else "epsilon",
    }
    stored = {k: v.detach().to("cpu", dtype if v.is_floating_point() else v.dtype) for k, v in tensors.items()}
    if generation == "xl":
        marks = {"v_pred": of_v, "ztsnr": bool(scheduler.get("rescale_betas_zero_snr", False))}
        stored |= {name: torch.empty(0) for name, holds in marks.items() if holds}
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file({k: v.contiguous() for k, v in stored.items()}, partial, metadata=header)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


def generation_of(pipeline: Any) -> str:
    """v1, v2 or xl. ConfigError for any other pipeline."""
    kind = type(pipeline).__name__
    if kind == "StableDiffusionXLPipeline" and pipeline.text_encoder is not None:
        return "xl"
    if kind == "StableDiffusionPipeline":
        return "v2" if pipeline.unet.config.cross_attention_dim == V2_WIDTH else "v1"
    raise ConfigError(f"--to single-file is for Stable Diffusion 1, 2 and XL; this is a {kind}: leave it out")


def original_tensors(pipeline: Any, generation: str) -> dict[str, Tensor]:
    """All tensors by their names in the file."""
    unet, vae = pipeline.unet, pipeline.vae
    try:
        tensors = {UNET + unet_key(k, unet.config): v for k, v in unet.state_dict().items()}
    except KeyError as e:
        raise ConfigError(f"--to single-file: the original layout has no {e.args[0]}") from None
    blocks = len(vae.config.block_out_channels)
    for key, tensor in vae.state_dict().items():
        name = vae_key(key, blocks)
        square = ".attn_1." in name and tensor.ndim == 2  # convolutions there
        tensors[VAE + name] = tensor[:, :, None, None] if square else tensor
    encoders = [pipeline.text_encoder] + ([pipeline.text_encoder_2] if generation == "xl" else [])
    for prefix, encoder in zip(TEXT[generation], encoders, strict=True):
        plain = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
        if prefix.endswith("text_model."):
            positions = torch.arange(encoder.config.max_position_embeddings)[None]
            tensors |= {prefix + k: v for k, v in plain.items()}
            tensors[f"{prefix}embeddings.position_ids"] = positions
        else:
            tensors |= {prefix + k: v for k, v in _open_clip(plain).items()}
    return tensors


def _open_clip(plain: dict[str, Tensor]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for key, tensor in plain.items():
        if key == "text_projection.weight":
            result["text_projection"] = tensor.T
        elif ".self_attn.q_proj." in key:
            three = [plain[key.replace("q_proj", name)] for name in ("q_proj", "k_proj", "v_proj")]
            layer, end = key.split(".")[2], key.rsplit(".", 1)[1]
            result[f"transformer.resblocks.{layer}.attn.in_proj_{end}"] = torch.cat(three)
        elif (".self_attn.out_proj." in key or ".self_attn." not in key) and not key.endswith("position_ids"):
            result[open_clip_key(key)] = tensor
    return result
