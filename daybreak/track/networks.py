"""The networks of an entry's run: ours, or a peer's in the same loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.encoders.text import TextEncoder
from daybreak.formats.run import load_averages
from daybreak.formats.weights import load_weights, read_tensors
from daybreak.track.peer import PeerPixel, peer_network
from daybreak.train.pixel import Pixel


def begin(config: Config, source: Source, device: torch.device, checkout: Path | None) -> Pixel:
    """A new run. checkout: of PRX's repository, whose denoiser then takes the transformer's place."""
    if checkout is None:
        return Pixel.create(config, source, device)
    return PeerPixel.create(config, source, device, network=peer_network(checkout))


def load(folder: Path, config: Config, checkout: Path | None) -> tuple[Any, TextEncoder]:
    """The denoiser and the text encoder that a run kept in `folder`."""
    if checkout is None:
        return load_averages(folder, config)
    text, path = TextEncoder.load(folder), folder / "transformer.safetensors"
    denoiser = peer_network(checkout)(config.model, text.width, config.routing)
    load_weights(denoiser, read_tensors(path), path)
    return denoiser, text
