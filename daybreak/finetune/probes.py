"""Losses on fixed pictures with fixed noise: what was gained on the domain, and what was forgotten.

The domain's are held-out pictures. The general ones are pictures that the base drew of prompts that have nothing to do
with the domain, before training began: where the network predicts their noise worse than the base did, it forgets.
Low noise rules that loss, and can be removed without knowing what is shown; so some of the general prompts are also
drawn again from the same noise, and the drift says how far the pictures moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from daybreak.evaluate.pictures import open_pictures, read_picture
from daybreak.finetune.cache import Cache, to_tensor
from daybreak.finetune.families import Family, Text
from daybreak.finetune.process import Process
from daybreak.finetune.step import StepRandomness, squared_errors

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
MOST = 32
"""Pictures of a probe."""
DRIFT_PICTURES = 4
"""General prompts that are drawn again while a run trains; its report draws all."""
DRIFT_SIDE = 8
"""Pictures are compared at this many pixels a side: what is where, and in which colours."""
GENERAL_PROMPTS = (
    "a dog running through tall grass",
    "a red bus on a rainy street at night",
    "a bowl of fruit on a wooden table, oil painting",
    "an old man with a grey beard, portrait",
    "a mountain lake at sunrise",
    "a living room with a green sofa and a lamp",
    "a child's drawing of a house under a yellow sun",
    "two cups of coffee beside an open book",
    "a sailing ship in a storm",
    "a city skyline seen from above",
    "a close-up of a blue butterfly on a flower",
    "a bicycle leaning against a brick wall",
)


@dataclass(frozen=True)
class Probe:
    """rows [N, ...] as `Family.rows` gives them, with their captions, and noise for each."""

    rows: Tensor
    captions: list[str]
    random: list[StepRandomness]

    @classmethod
    def of(cls, rows: Tensor, captions: list[str], process: Process, channels: int) -> Probe:
        """Noise is drawn once, from a seed of its own; every level sees the same."""
        generator = torch.Generator().manual_seed(4321)
        rows, captions = rows[:MOST].float().clone(), captions[:MOST]
        shape = (len(rows), channels, *rows.shape[2:])
        first = StepRandomness.draw(shape, process, 0.0, 0.0, False, generator)
        levels = [process.at(level, len(rows)) for level in LEVELS]
        return cls(
            rows, captions, [StepRandomness(first.noise, first.posterior, t, first.drop, first.flip) for t in levels]
        )

    @torch.no_grad()
    def loss(self, family: Family, process: Process, text_of: TextOf, device: torch.device) -> float:
        """Mean over pictures and noise levels."""
        total = 0.0
        for start in range(0, len(self.rows), 8):
            part = slice(start, start + 8)
            rows, text = self.rows[part].to(device), text_of(self.captions[part])
            for random in self.random:
                losses = squared_errors(family, family.network, process, rows, text, random.rows(part))
                total += float(losses.double().sum())
        return total / (len(self.rows) * len(LEVELS))


class TextOf:
    """Captions to text: from the cache, or read anew where the text encoder is trained."""

    def __init__(self, family: Family, cache: Cache, live: bool, device: torch.device) -> None:
        self._family, self._cache, self._live, self._device = family, cache, live, device

    def __call__(self, captions: list[str]) -> Text:
        if self._live or any(c not in self._cache.place for c in captions):
            return self._family.text(captions)
        return self._cache.text(captions, self._device)


def drift(run: Path, after: Tensor) -> float | None:
    """How far the first general prompts' pictures `after` [N, 3, H, W] moved from the base's, kept in RUN/general.

    0: not at all; 1: as far as two of the base's pictures are from each other, of different prompts. Root mean square.
    None where the base's pictures do not differ.
    """
    items = open_pictures(run / "general", "general").items
    all_before = torch.stack([to_tensor(np.asarray(read_picture(i.path))[None])[0] for i in items])
    before = functional.adaptive_avg_pool2d(all_before, DRIFT_SIDE).flatten(1)
    moved = (functional.adaptive_avg_pool2d(after, DRIFT_SIDE).flatten(1) - before[: len(after)]).square().mean()
    n = len(before)
    apart = torch.cdist(before, before).square().sum() / max(1, n * (n - 1)) / before.shape[1]
    return float((moved / apart).sqrt()) if apart > 0 else None
