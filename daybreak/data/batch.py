"""The batch: the one place that states what training and sampling expect of pictures and captions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

B = TypeVar("B", covariant=True)


@dataclass(frozen=True)
class Phrase:
    """A part of a caption, from character `start` to before `end`, and the box of what it speaks of.

    box: left, top, right, bottom as shares of the picture's sides.
    """

    start: int
    end: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Batch:
    """Captioned pictures.

    images: [B, 3, H, W] float32 in [-1, 1], sRGB; H and W are divisible by the model's patch size. Or as Pillow holds
    them in memory, uint8 [B, H, W, 4], the last of no meaning: a third of the bytes on their way to the training
    device, where `to_floats` makes the one of the other.
    captions: B strings; the empty string is the unconditional caption.
    text: their tokens' features [L_i, C], one tensor a caption, where the data hold them; none: captions are encoded.
    phrases: what each caption says of which part of its picture, where the data know it.
    """

    images: Tensor
    captions: list[str]
    text: list[Tensor] | None = None
    phrases: list[list[Phrase]] | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def rows(self, rows: slice) -> Batch:
        """Some of the pictures, with their captions."""
        text, phrases = (None if v is None else v[rows] for v in (self.text, self.phrases))
        return Batch(self.images[rows], self.captions[rows], text, phrases)  # type: ignore[arg-type]

    def pinned(self) -> Batch:
        """The same with images in pinned memory."""
        return replace(self, images=self.images.pin_memory())

    @property
    def shape(self) -> torch.Size:
        """[B, 3, H, W], however the images are held."""
        b, *others = self.images.shape
        return torch.Size((b, 3, *others[:2])) if self.images.dtype == torch.uint8 else self.images.shape

    def __post_init__(self) -> None:
        axis, channels = (3, 4) if self.images.dtype == torch.uint8 else (1, 3)
        if self.images.ndim != 4 or self.images.shape[axis] != channels or len(self.images) != len(self):
            raise ValueError(
                f"a batch needs images [B, 3, H, W], or [B, H, W, 4] uint8, and B captions, got "
                f"{tuple(self.images.shape)} and {len(self.captions)} captions"
            )


@dataclass(frozen=True)
class Skipped:
    """An item that cannot be used, and why."""

    path: str
    reason: str


class Source(Protocol[B]):
    """Where batches come from. Sample number n is the same picture and caption each time it is asked for."""

    def batch(self, position: int, size: int) -> B:
        """Samples number `position` to `position + size - 1` of the training order."""
        ...

    def some_captions(self, n: int) -> list[str]:
        """About n captions, to train a tokenizer on."""
        ...

    def describe(self) -> str:
        """One line for the log: what this is and how much of it there is."""
        ...


def to_floats(images: Tensor) -> Tensor:
    """A batch's images as float32 [B, 3, H, W] in [-1, 1]: x / 127.5 - 1 of uint8 [B, H, W, 4], floats as they are."""
    if images.dtype != torch.uint8:
        return images
    floats = images[..., :3].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return floats.mul_(1 / 127.5).sub_(1)


def to_uint8(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [-1, 1] -> [B, H, W, 3] uint8, rounded."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
