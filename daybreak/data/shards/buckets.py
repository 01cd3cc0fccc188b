"""Aspect-ratio buckets: the few shapes that training pictures have, each of about the same number of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = 16
"""Sides change in steps of about a 16th of the square's side, so that 512 px and 1024 px have the same shapes."""
LEAST_FILL = 0.85
"""Shapes with less of the square's area than this are left out."""

Bucket = tuple[int, int]
"""Width and height, px."""


def bucket_sizes(size: int, patch: int, max_ratio: float, step: int | None = None) -> list[Bucket]:
    """The buckets around the square of `size` px, from tallest to widest.

    Every side is a multiple of `patch`; the area is at most size² and at least 85 % of it; width over height lies
    between 1 / max_ratio and max_ratio. step: by which sides change, px; none: as STEPS has it. Raises ValueError where
    `patch` does not divide `size`.
    """
    if size % patch:
        raise ValueError(f"size {size} does not divide by patches of {patch} px; {max(1, size // patch) * patch} does")
    step = step or patch * max(1, round(size / patch / STEPS))
    buckets = {(size, size)}
    for width in range(size, math.ceil(size * math.sqrt(max_ratio / LEAST_FILL)) + 1, step):
        height = size - math.ceil((size - size * size / width) / step) * step
        if height > 0 and width <= max_ratio * height and width * height >= LEAST_FILL * size * size:
            buckets |= {(width, height), (height, width)}
    return sorted(buckets, key=lambda b: (b[0] / b[1], b))


def nearest_bucket(width: int, height: int, buckets: Sequence[Bucket]) -> int:
    """The number of the bucket whose shape is nearest, by the logarithm of width over height."""
    ratio = math.log(width / height)
    return min(range(len(buckets)), key=lambda i: abs(math.log(buckets[i][0] / buckets[i][1]) - ratio))


def covering(shape: Bucket, buckets: Sequence[Bucket]) -> Bucket:
    """The least size, px, of pictures of this shape that covers the bucket whose shape is nearest to it."""
    width, height = shape
    w, h = buckets[nearest_bucket(width, height, buckets)]
    return (w, -(-height * w // width)) if w * height >= h * width else (-(-width * h // height), h)


def crop_box(width: int, height: int, bucket: Bucket) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom), px, of a picture that has the shape of `bucket`."""
    w, h = bucket
    if width * h > height * w:
        side = (width - height * w / h) / 2
        return side, 0.0, width - side, float(height)
    side = (height - width * h / w) / 2
    return 0.0, side, float(width), height - side
