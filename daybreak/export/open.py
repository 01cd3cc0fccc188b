"""One way to open a model, whichever form it is kept in."""

from __future__ import annotations

from pathlib import Path

import torch

from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.export.diffusers_folder import read_diffusers
from daybreak.export.forms import form_of
from daybreak.export.own_folder import read_own
from daybreak.export.quantized_folder import read_quantized
from daybreak.export.safetensors_folder import read_safetensors
from daybreak.model.transformer import Transformer
from daybreak.train import checkpoint


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
