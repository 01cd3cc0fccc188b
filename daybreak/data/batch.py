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
    """Captioned pictures. Every reader takes them from `images`: [B, 3, H, W] float32 in [-1, 1], sRGB.

    pixels: the same [B, 3, H, W], of which H and W are divisible by the model's patch size; a decoder may hand in what
    it has instead, uint8 [B, H, W, 4] with the last of no meaning, a third of the bytes to move: `images` are
    pixels / 127.5 - 1 then.
    captions: B strings; the empty string is the unconditional caption.
    text: their tokens' features [L_i, C], one tensor a caption, where the data hold them; none: captions are encoded.
    phrases: what each caption says of which part of its picture, where the data know it.
    """

    pixels: Tensor
    captions: list[str]
    text: list[Tensor] | None = None
    phrases: list[list[Phrase]] | None = None

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def images(self) -> Tensor:
        """[B, 3, H, W] float32 in [-1, 1], where the batch is; made anew of bytes at each call."""
        if self.pixels.dtype != torch.uint8:
            return self.pixels
        colours = self.pixels[..., :3].permute(0, 3, 1, 2)
        return colours.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 127.5).sub_(1)

    @property
    def shape(self) -> torch.Size:
        """[B, 3, H, W]."""
        height, width = self.pixels.shape[1:3] if self.pixels.dtype == torch.uint8 else self.pixels.shape[2:]
        return torch.Size((len(self), 3, height, width))

    def rows(self, rows: slice) -> Batch:
        """Some of the pictures, with their captions."""
        text, phrases = (None if v is None else v[rows] for v in (self.text, self.phrases))
        return Batch(self.pixels[rows], self.captions[rows], text, phrases)  # type: ignore[arg-type]

    def pinned(self) -> Batch:
        """The same with its pictures in pinned memory."""
        return replace(self, pixels=self.pixels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same with its pictures on `device`."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=True))

    def __post_init__(self) -> None:
        axis, channels = (3, 4) if self.pixels.dtype == torch.uint8 else (1, 3)
        if self.pixels.ndim != 4 or self.pixels.shape[axis] != channels or len(self.pixels) != len(self):
            raise ValueError(
                f"a batch needs images [B, 3, H, W], or [B, H, W, 4] uint8, and B captions, got "
                f"{tuple(self.pixels.shape)} and {len(self.captions)} captions"
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


def to_uint8(images: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [-1, 1] -> [B, H, W, 3] uint8, rounded."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
