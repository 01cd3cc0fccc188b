"""The model that fine-tuning starts from: a diffusers pipeline from the hub, a folder or one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.finetune.base_files import check_base
from daybreak.finetune.settings import FinetuneSettings
from daybreak.hub_models import no_bar_of_weights
from daybreak.model_folder import own_adapted

PURPOSE = "fine-tuning"
FAMILY_OF_FILE = (
    ("xl_base", "StableDiffusionXLPipeline"),
    ("sd3", "StableDiffusion3Pipeline"),
    ("flux", "FluxPipeline"),
    ("v1", "StableDiffusionPipeline"),
    ("v2", "StableDiffusionPipeline"),
)
"""Which pipeline draws what diffusers finds in a single file, by the beginning of its name for it."""


def base_of(settings: FinetuneSettings, dtype: torch.dtype) -> Any:
    """The pipeline that a run starts from."""
    return open_base(settings.base, settings.allow_pickle, settings.base_config, dtype, settings.variant)


def open_base(
    base: str,
    allow_pickle: bool = False,
    config: str | None = None,
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
) -> Any:
    """The pipeline, its weights as `dtype`, on the CPU.

    `base`: a hub id, a folder with model_index.json, or a single file; `config`: for a single file, a folder with its
    configuration; `variant`: which of several files of weights, such as fp16; none: the plain ones, or those that a
    folder has in their place. Weights must be safetensors: others can run code when they are opened. With
    `allow_pickle` they are read all the same, by torch's weights-only reader, which refuses code. Raises ConfigError
    where the base is missing, refused, or nothing that draws from text.
    """
    diffusers = require("diffusers", "finetune", PURPOSE)
    diffusers.utils.logging.disable_progress_bar()  # of loading; it would break into what daybreak shows
    path = Path(base).expanduser()
    if own_adapted(base):
        from daybreak.finetune.family.own import open_own_base

        return open_own_base(path)
    no_bar_of_weights()
    variant = check_base(base, allow_pickle, config, variant)
    if path.is_file():
        return _open_file(diffusers, path, config, dtype)
    where = str(path) if path.is_dir() else base
    try:
        # None lets diffusers take what is there, by its weights-only reader.
        safe = None if allow_pickle else True
        given = {"dtype": dtype, "use_safetensors": safe, "variant": variant}
        pipeline = diffusers.DiffusionPipeline.from_pretrained(where, **given)
    except Exception as e:  # whatever diffusers, transformers and the hub raise for what a user named wrongly
        hint = "; if it has only fp16 files: --variant fp16" if variant is None and "no file named" in str(e) else ""
        raise ConfigError(f"{base}: diffusers cannot load it: {_line(e)}{hint}") from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _open_file(diffusers: Any, path: Path, config: str | None, dtype: torch.dtype) -> Any:
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type, load_single_file_checkpoint

    try:
        kind = infer_diffusers_model_type(load_single_file_checkpoint(str(path)))
    except Exception as e:  # safetensors, pickle and torch each have their own
        raise ConfigError(f"{path} cannot be read: {_line(e)}") from None
    name = next((n for begins, n in FAMILY_OF_FILE if kind.startswith(begins)), None)
    if name is None:
        raise ConfigError(f"{path} holds a model of the kind {kind}, which cannot be fine-tuned here")
    try:
        pipeline = getattr(diffusers, name).from_single_file(str(path), config=config, dtype=dtype)
    except Exception as e:
        hint = "" if config else "; without the hub, --base-config names a folder with the model's configuration"
        raise ConfigError(f"{path} cannot be loaded as a {name}: {_line(e)}{hint}") from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
