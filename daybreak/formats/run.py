"""The averaged networks of a run's checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from daybreak import checkpoint_files as files
from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder, open_text_encoder
from daybreak.formats.weights import load_weights, read_tensors
from daybreak.model.transformer import Transformer
from daybreak.run_folder import newest

DRAWING = ("transformer.safetensors", "text_encoder", "tokenizer")
"""What sampling reads of a checkpoint."""


def load_averaged(run: Path, config: Config, device: torch.device) -> tuple[Transformer, TextEncoder]:
    """The averaged networks of a run's newest checkpoint, ready for sampling."""
    folder = newest(run)
    if (folder / files.MANIFEST).exists() and (reason := files.damage(folder, DRAWING)):
        raise ConfigError(f"{folder}: {reason}")
    transformer, text_encoder = load_averages(folder, config)
    return transformer.to(device).eval(), text_encoder.to(device).eval()


def load_averages(folder: Path, config: Config) -> tuple[Transformer, TextEncoder]:
    frozen = config.text.pretrained is not None
    text_encoder = open_text_encoder(config.text) if frozen else TextEncoder.load(folder)
    transformer = Transformer(config.model, text_encoder.width, config.routing)
    load_weights(transformer, read_tensors(folder / "transformer.safetensors"), folder / "transformer.safetensors")
    return transformer, text_encoder
