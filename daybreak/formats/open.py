"""One way to open a model, whichever form it is kept in."""

from __future__ import annotations

from pathlib import Path

import torch

from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.formats.diffusers_folder import read_diffusers
from daybreak.formats.own_folder import read_own
from daybreak.formats.quantized_folder import read_quantized
from daybreak.formats.run import load_averaged
from daybreak.formats.safetensors_folder import read_safetensors
from daybreak.model.transformer import Transformer
from daybreak.model_folder import check_kind
from daybreak.run_folder import trained_config


def open_model(folder: Path, device: torch.device) -> tuple[Transformer, TextEncoder, Config]:
    """The averaged networks of a run or of an exported folder, ready for sampling. ConfigError for anything else.

    The config is the one to sample with: of a run of several stages the last one's.
    """
    kind = check_kind(folder)
    if kind == "run":
        config = trained_config(folder)
        return *load_averaged(folder, config, device), config
    if kind == "quantized":
        return read_quantized(folder, device)
    read = {"safetensors": read_safetensors, "own": read_own}.get(kind, read_diffusers)
    transformer, text_encoder, config = read(folder)
    return transformer.to(device).eval(), text_encoder.to(device).eval(), config
