"""Losses on fixed pictures with fixed noise: what was gained on the domain, and what was forgotten.

The domain's are held-out pictures. The general ones are pictures that the base drew of prompts that have nothing to do
with the domain, before training began: where the network predicts their noise worse than the base did, it forgets.
Low noise rules that loss, and can be removed without knowing what is shown; so some of the general prompts are also
drawn again from the same noise, and the drift says how far the pictures moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """rows: of each picture, as `Family.rows` gives it, with its caption, and noise for all at each level.

    sizes [N, 6]: see `shapes.Sizes`; None: of pictures that are as the base draws them. weights: of the places of each
    picture, [1, h, w]; None: all count alike.
    """

    rows: list[Tensor]
    captions: list[str]
    random: list[StepRandomness]
    sizes: Tensor | None = None
    weights: list[Tensor] | None = None

    @classmethod
    def of(
        cls, rows: Sequence[Tensor] | Tensor, captions: list[str], process: Process, channels: int,
        sizes: Tensor | None = None, weights: list[Tensor] | None = None,
    ) -> Probe:  # fmt: skip
        """Noise is drawn once, from a seed of its own; every level sees the same."""
        generator = torch.Generator().manual_seed(4321)
        kept, captions = [row.float().clone() for row in rows[:MOST]], captions[:MOST]
        canvas = (max(row.shape[i] for row in kept) for i in (1, 2))
        first = StepRandomness.draw((len(kept), channels, *canvas), process, 0.0, 0.0, False, generator)
        random = [replace(first, t=process.at(level, len(kept))) for level in LEVELS]
        return cls(kept, captions, random, None if sizes is None else sizes[:MOST], weights and weights[:MOST])

    @torch.no_grad()
    def loss(self, family: Family, process: Process, text_of: TextOf, device: torch.device) -> float:
        """Mean over pictures and noise levels."""
        total = 0.0
        for numbers in self._alike():
            rows = torch.stack([self.rows[i] for i in numbers]).to(device)
            text = self.sized(text_of([self.captions[i] for i in numbers]), numbers, device)
            places = None
            if self.weights is not None:
                places = torch.stack([self.weights[i] for i in numbers]).float().to(device)
            for random in self.random:
                losses = squared_errors(family, family.network, process, rows, text, random.rows(numbers), places)
                total += float(losses.double().sum())
        return total / (len(self.rows) * len(LEVELS))

    def sized(self, text: Text, numbers: list[int], device: torch.device) -> Text:
        """The text of some pictures, with their sizes."""
        return text if self.sizes is None else text | {"sizes": self.sizes[numbers].to(device)}

    def _alike(self) -> list[list[int]]:
        """Numbers of pictures of one shape, eight at once."""
        shapes = [row.shape for row in self.rows]
        alike = [[i for i, other in enumerate(shapes) if other == shape] for shape in dict.fromkeys(shapes)]
        return [numbers[i : i + 8] for numbers in alike for i in range(0, len(numbers), 8)]


class TextOf:
    """Captions to text: from the cache, or read anew where the text encoder is trained."""

    def __init__(self, family: Family, cache: Cache, live: bool, device: torch.device) -> None:
        self._family, self._cache, self._live, self._device = family, cache, live, device

    def __call__(self, captions: list[str]) -> Text:
        if self._live:
            return self._family.text(captions)
        if any(c not in self._cache.place for c in captions):  # tags in another order
            with torch.no_grad():
                return {name: tensor.to(self._device) for name, tensor in self._family.text(captions).items()}
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
