"""One way to open a model, whichever form it is kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.export.diffusers_folder import read_diffusers, read_json
from daybreak.export.own_folder import is_own_index, read_own
from daybreak.export.quantized_folder import QUANTIZED_FILE, read_quantized
from daybreak.export.safetensors_folder import WEIGHTS_FILE, read_safetensors
from daybreak.model.transformer import Transformer
from daybreak.train import checkpoint

Form = Literal["run", "safetensors", "quantized", "prx", "own", "pipeline"]


def form_of(folder: Path) -> Form:
    """Which form a model folder has.

    A run, `export --to safetensors`, `shrink`, PRXPixelPipeline, `export` of what is no PRX, another pipeline.

    A run of daybreak finetune is a pipeline.

    Raises ConfigError where it is none of them.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if (folder / "config.yaml").is_file():
        return "run"
    if (folder / "finetune.yaml").is_file():
        return "pipeline"
    if (folder / QUANTIZED_FILE).is_file():
        return "quantized"
    if (folder / WEIGHTS_FILE).is_file():
        return "safetensors"
    if (folder / "model_index.json").is_file():
        index = read_json(folder / "model_index.json")
        if is_own_index(index):
            return "own"
        return "prx" if index.get("_class_name") == "PRXPixelPipeline" else "pipeline"
    raise ConfigError(
        f"{folder} is no model: it holds neither config.yaml (a run), nor {WEIGHTS_FILE}, "
        "nor model_index.json (diffusers)"
    )


def is_pipeline(folder: Path) -> bool:
    """Whether diffusers draws with it: a pipeline's folder, or a run of daybreak finetune."""
    known = any((folder / name).is_file() for name in ("finetune.yaml", "model_index.json"))
    return known and form_of(folder) == "pipeline"


def open_model(folder: Path, device: torch.device) -> tuple[Transformer, TextEncoder, Config]:
    """The averaged networks of a run or of an exported folder, ready for sampling. ConfigError for anything else."""
    form = form_of(folder)
    if form == "run":
        config = configs.check(configs.load(folder / "config.yaml"))
        return *checkpoint.load_averaged(folder, config, device), config
    if form == "quantized":
        return read_quantized(folder, device)
    read = {"safetensors": read_safetensors, "own": read_own}.get(form, read_diffusers)
    transformer, text_encoder, config = read(folder)
    return transformer.to(device).eval(), text_encoder.to(device).eval(), config
