"""What is judged: a model that generates pictures, or a folder of pictures. daybreak/subjects.py opens them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.pictures import PictureFolder
from daybreak.evaluate.request import Drawing
from daybreak.model.transformer import Transformer
from daybreak.sampling.generate import generate


class Drawer(Protocol):
    """Generates pictures of prompts. Number n depends on the seed, n and its prompt, not on its batch."""

    batch: int

    @property
    def plain(self) -> Drawer | None:
        """Takes prompts as they stand, where this one writes them out first and both are worth a look; else None."""
        ...

    def draw(self, prompts: list[str], first: int) -> Tensor:
        """Pictures number `first`, `first` + 1, ...: [len(prompts), 3, H, W] float32 in [-1, 1], on the CPU."""
        ...


class RunDrawer:
    """A model of ours as a `Drawer`, with the sampling settings of its config."""

    def __init__(
        self, transformer: Transformer, text_encoder: TextEncoder, config: Config, seed: int, size: int | None = None
    ) -> None:
        self._transformer, self._text_encoder, self._config = transformer, text_encoder, config
        self._seed, self._size = seed, size
        self.batch = config.sample.batch

    @property
    def plain(self) -> RunDrawer | None:
        """See `Drawer`."""
        if self._config.sample.expand is None:
            return None
        config = configs.override(self._config, "sample.expand", "none")
        return RunDrawer(self._transformer, self._text_encoder, config, self._seed, self._size)

    def draw(self, prompts: list[str], first: int) -> Tensor:
        """See `Drawer`."""
        networks = self._transformer, self._text_encoder
        return generate(*networks, prompts, self._config, self._seed, self._size, first)


@dataclass
class Subject:
    """name: for headings; facts: for the report; drawer, or pictures that exist; config: of a run of ours."""

    name: str
    facts: dict[str, str] = field(default_factory=dict)
    drawer: Drawer | None = None
    pictures: PictureFolder | None = None
    config: Config | None = None
    run: Path | None = None


Opener = Callable[[str, Drawing, torch.device], Subject]
"""Opens what a name stands for; ConfigError where that is nothing to be judged (daybreak/subjects.py)."""
