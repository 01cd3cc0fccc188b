"""What `daybreak prepare` was asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Literal

from daybreak.config import ConfigError
from daybreak.config.bounds import Bounds, Count, Flag, Natural
from daybreak.config.quantities import size_in
from daybreak.config.settings import Colour
from daybreak.data.reading.settings import Reading
from daybreak.data.shards.buckets import Bucket, bucket_sizes, covering

WORTH_A_COPY = 1.5
"""--size is at least this many times --copy-size: a larger copy would save little of the time that decoding takes."""


@dataclass(frozen=True)
class PrepareSettings(Reading):
    """How pictures become shards. Raises ConfigError, naming the flag, for a value out of its range."""

    size: Annotated[int, Bounds(least=8)] = 1024
    """Side of the square whose area the pictures are brought to, px."""
    copy_size: Annotated[int, Bounds(least=8)] | None = None
    """Store a smaller copy beside each picture, which training at this size or below decodes, px; none: no copies."""
    patch: Count = 32
    """Every side of the stored pictures becomes a multiple of this, px."""
    max_ratio: Annotated[float, Bounds(least=1)] = 2.0
    """Widest shape, width over height; 1 crops to squares. What would lose more than a third to it is dropped."""
    min_side: Natural | None = None
    """Pictures with a shorter side below this are dropped, px; none: half of --size."""
    encoding: Literal["jpeg", "webp", "png"] = "jpeg"
    """Format of the stored pictures."""
    quality: Annotated[int, Bounds(least=1, most=100)] = 92
    """Quality of JPEG and WebP."""
    duplicates: Literal["drop", "exact", "keep"] = "drop"
    """What goes: the same file and the same picture (drop), the same file only (exact), or neither (keep)."""
    shard_mb: Annotated[float, Bounds(above=0), size_in("MB"), Flag("--shard-size")] = 256.0
    """Shards are closed at this size of pictures; copies come on top, so that the order of training stays."""
    background: Colour = (255, 255, 255)
    """Colour behind transparent pictures, sRGB 0..255."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % self.patch:
            near = max(1, round(self.size / self.patch)) * self.patch
            raise ConfigError(f"--size {self.size} does not divide by --patch {self.patch}; --size {near} does")
        if self.copy_size is not None:
            most = int(self.size / WORTH_A_COPY) // self.patch * self.patch
            if self.copy_size % self.patch or self.copy_size > most:
                raise ConfigError(
                    f"--copy-size {self.copy_size}: with --size {self.size} it must be at most {most}, since a larger "
                    f"copy would save little, and a multiple of --patch {self.patch}"
                )

    @cached_property
    def copy_shapes(self) -> dict[Bucket, Bucket]:
        """The shape of a stored picture -> the shape of its copy; empty without copies."""
        if self.copy_size is None:
            return {}
        smaller = bucket_sizes(self.copy_size, self.patch, self.max_ratio)
        return {bucket: covering(bucket, smaller) for bucket in self.buckets}

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The shapes of stored pictures."""
        return bucket_sizes(self.size, self.patch, self.max_ratio)

    def fingerprint(self, *others: str) -> str:
        """A hash of these settings and of `others`; without copies that of versions which knew none."""
        own = {name: value for name, value in asdict(self).items() if name != "copy_size" or value is not None}
        text = json.dumps([own, *others], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
