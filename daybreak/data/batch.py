"""The batch: the one place that states what training and sampling expect of pictures and captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Captioned pictures.

    images: [B, 3, H, W] sRGB, float32 in [-1, 1] or uint8 in 0..255, a quarter of the bytes on their way to the
    training device, where `to_floats` makes one of the other; H and W are divisible by the model's patch size.
    captions: B strings; the empty string is the unconditional caption.
    text: their tokens' features [L_i, C], one tensor a caption, where the data hold them; none: captions are encoded.
    """

    images: Tensor
    captions: list[str]
    text: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def rows(self, rows: slice) -> Batch:
        """Some of the pictures, with their captions."""
        return Batch(self.images[rows], self.captions[rows], None if self.text is None else self.text[rows])

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3 or len(self.images) != len(self.captions):
            raise ValueError(
                f"a batch needs images [B, 3, H, W] and B captions, got {tuple(self.images.shape)} "
                f"and {len(self.captions)} captions"
            )


@dataclass(frozen=True)
class Skipped:
    """An item that cannot be used, and why."""

    path: str
    reason: str


class Source(Protocol):
    """Where batches come from. Sample number n is the same picture and caption each time it is asked for."""

    def batch(self, position: int, size: int) -> Batch:
        """Samples number `position` to `position + size - 1` of the training order."""
        ...

    def some_captions(self, n: int) -> list[str]:
        """About n captions, to train a tokenizer on."""
        ...

    def describe(self) -> str:
        """One line for the log: what this is and how much of it there is."""
        ...


def to_floats(images: Tensor) -> Tensor:
    """A batch's images [B, 3, H, W] as float32 in [-1, 1]: x / 127.5 - 1 of uint8, floats as they are."""
    return images.float().mul_(1 / 127.5).sub_(1) if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [-1, 1] -> [B, H, W, 3] uint8, rounded."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
