"""The model that fine-tuning starts from: a diffusers pipeline from the hub, a folder or one file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.variants import pick_variant

PURPOSE = "fine-tuning"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
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
    if path.is_file():
        if variant is not None:
            raise ConfigError(f"--variant is for folders and hub ids; {base} is one file: leave it out")
        return _open_file(diffusers, path, allow_pickle, config, dtype)
    if config is not None:
        raise ConfigError(f"--base-config goes with a single file; {base} brings its own configuration: leave it out")
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ConfigError(f"{base} is no base: it holds no model_index.json (a diffusers pipeline)")
        if not allow_pickle:
            _refuse_pickles(path)
        variant = pick_variant(path, variant, allow_pickle)
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", base) or path.parent.exists():
        raise ConfigError(f"{base}: no such folder or file, and no hub id such as owner/name")
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


def _open_file(diffusers: Any, path: Path, allow_pickle: bool, config: str | None, dtype: torch.dtype) -> Any:
    if path.suffix.lower() in PICKLES and not allow_pickle:
        raise ConfigError(_refusal(path))
    if path.suffix.lower() not in (".safetensors", *PICKLES):
        raise ConfigError(f"{path} is no base: a single file ends in .safetensors")
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


def _refuse_pickles(folder: Path) -> None:
    """ConfigError where a part of the pipeline has its weights as pickle only."""
    for part in sorted(p for p in folder.iterdir() if p.is_dir()):
        files = [p for p in part.iterdir() if p.is_file()]
        pickles = [p for p in files if p.suffix in PICKLES]
        if pickles and not any(p.suffix == ".safetensors" for p in files):
            raise ConfigError(_refusal(pickles[0]))


def _refusal(path: Path) -> str:
    return (
        f"{path} is a pickle, which can run code when it is opened: take the model's safetensors, or give "
        "--allow-pickle if you trust its maker (it is then read without running code)"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
