"""The grounding loss: words of a phrase belong where the phrase's box is (model/grounding.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daybreak.data.batch import Phrase

MARGIN = 1 / 64
"""A box reaches so much farther on every side, as a share of the picture's."""


@dataclass(frozen=True)
class GroundingTarget:
    """Where words belong: token `word[i]` of caption `caption[i]` belongs to the places of `places[i]`.

    caption, word [M] int64; places [M, rows * columns] float32, 1 where the phrase's box reaches.
    """

    caption: Tensor
    word: Tensor
    places: Tensor

    def to(self, device: torch.device) -> GroundingTarget:
        """The same on `device`."""
        return GroundingTarget(self.caption.to(device), self.word.to(device), self.places.to(device))


def grounding_target(
    phrases: list[list[Phrase]], offsets: list[list[tuple[int, int]]], rows: int, columns: int
) -> GroundingTarget:
    """What the phrases of B captions say of their tokens, which stand at `offsets` (first character, one past)."""
    caption, word, boxes = [], [], []
    for i, (said, tokens) in enumerate(zip(phrases, offsets, strict=True)):
        for phrase in said:
            within = [n for n, (start, end) in enumerate(tokens) if phrase.start < end <= phrase.end and start < end]
            caption += [i] * len(within)
            word += within
            boxes += [phrase.box] * len(within)
    left, top, right, bottom = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4, 1).unbind(1)  # [M, 1] each

    def reached(low: Tensor, high: Tensor, n: int) -> Tensor:
        edges = torch.arange(n) / n
        return (high + MARGIN > edges) & (low - MARGIN < edges + 1 / n)

    places = reached(top, bottom, rows)[:, :, None] & reached(left, right, columns)[:, None]
    return GroundingTarget(torch.tensor(caption, dtype=torch.int64), torch.tensor(word, dtype=torch.int64),
                           places.flatten(1).float())  # fmt: skip


def grounding_loss(logits: Tensor, target: GroundingTarget) -> Tensor:
    """Binary cross-entropy of the words of phrases, mean over words and places: logits [B, L, N] -> scalar."""
    if len(target.word) == 0:
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[target.caption, target.word], target.places)
