"""The shapes of training pictures: aspect-ratio buckets within the base's pixel budget, or one square."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from daybreak.data.shards.buckets import Bucket, bucket_sizes, crop_box, nearest_bucket

Sizes = tuple[int, int, int, int, int, int]
"""Height and width of the original, top and left of the crop in the scaled picture, height and width of the crop; px.
What Stable Diffusion XL is told of a picture (arXiv 2307.01952, section 2.2)."""


@dataclass(frozen=True)
class Shapes:
    """Which shape a picture gets.

    side: of the square whose pixels are the budget; step: divides every side; longest: no side is longer; px.
    max_ratio: of the widest and of the tallest shape. Nothing is scaled up unless `upscale`: a picture smaller than its
    bucket keeps its size, but for what its sides are more than a multiple of `step`. square: one shape for all, to
    which smaller pictures are scaled up.
    """

    side: int
    step: int
    max_ratio: float
    upscale: bool = False
    square: bool = False
    longest: int | None = None

    @classmethod
    def squares(cls, side: int) -> Shapes:
        """One shape for all."""
        return cls(side, side, 1.0, upscale=True, square=True)

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The shapes of pictures that are large enough, from tallest to widest."""
        if self.square:
            return [(self.side, self.side)]
        found = bucket_sizes(self.side, self.step, self.max_ratio, self.step)
        return [bucket for bucket in found if max(bucket) <= (self.longest or max(bucket))]

    def of(self, width: int, height: int) -> Bucket | None:
        """The shape of a picture of this size; None where a side is shorter than one step, and is not scaled up."""
        bucket = self.buckets[nearest_bucket(width, height, self.buckets)]
        if self.upscale or (width >= bucket[0] and height >= bucket[1]):
            return bucket
        most = self.longest or max(width, height)
        w, h = (int(min(a, self.max_ratio * b, most)) // self.step for a, b in ((width, height), (height, width)))
        while w * h * self.step**2 > self.side**2 or max(w, h) > self.max_ratio * min(w, h) > 0:
            w, h = (w - 1, h) if w >= h else (w, h - 1)
        return (w * self.step, h * self.step) if w and h else None


def framed(image: Image.Image, bucket: Bucket) -> np.ndarray:
    """A picture, or a mask, scaled to cover its shape and cropped to it, in the middle: [H, W, 3] or [H, W] uint8."""
    if image.size == bucket:
        return np.asarray(image)
    return np.asarray(image.resize(bucket, Image.Resampling.LANCZOS, box=crop_box(*image.size, bucket)))


def sizes_of(stored: tuple[int, int], bucket: Bucket, original: tuple[int, int] | None = None) -> Sizes:
    """What a picture's shape made of it. original: its size before it was stored, where it was scaled and cropped in
    the middle then; all as (width, height)."""
    first = original or stored
    scale = max(s / f for s, f in zip(stored, first, strict=True)) * max(
        b / s for b, s in zip(bucket, stored, strict=True)
    )
    left, top = (max(0, round((f * scale - b) / 2)) for f, b in zip(first, bucket, strict=True))
    return first[1], first[0], top, left, bucket[1], bucket[0]


def side_step(multiple: int, wanted: int, side: int) -> int:
    """By which px sides change: `multiple`, doubled while it is within `wanted` and `side` is at least four of it."""
    step = multiple
    while 2 * step <= wanted and side % (2 * step) == 0 and side >= 8 * step:
        step *= 2
    return step
