"""What `daybreak prepare` was asked for."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from daybreak.config import ConfigError
from daybreak.data.reading.settings import Reading
from daybreak.data.shards.buckets import bucket_sizes

Encoding = Literal["jpeg", "webp", "png"]
Duplicates = Literal["drop", "exact", "keep"]


@dataclass(frozen=True)
class PrepareSettings(Reading):
    """How pictures become shards. Raises ConfigError, naming the flag, for a value out of its range."""

    size: int = 1024
    """Side of the square whose area the pictures are brought to, px."""
    patch: int = 32
    """Divides every side of the stored pictures, px."""
    max_ratio: float = 2.0
    """Widest bucket, width over height; pictures that would lose more than a third to it are dropped."""
    min_side: int | None = None
    """Pictures with a shorter side below this are dropped, px; default: half of `size`."""
    encoding: Encoding = "jpeg"
    quality: int = 92
    """Of JPEG and WebP."""
    duplicates: Duplicates = "drop"
    """drop: the same file and the same picture; exact: the same file only; keep: neither."""
    shard_mb: float = 256.0
    """Shards are closed at this size, MB."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour behind transparent pictures, sRGB 0..255."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 8:
            raise ConfigError(f"--size is {self.size}; it must be at least 8 px")
        if self.patch < 1:
            raise ConfigError(f"--patch is {self.patch}; it must be at least 1 px")
        if self.size % self.patch:
            near = max(1, round(self.size / self.patch)) * self.patch
            raise ConfigError(f"--size {self.size} does not divide by --patch {self.patch}; --size {near} does")
        if not 1 <= self.max_ratio < math.inf:
            raise ConfigError(f"--max-ratio is {self.max_ratio:g}; it is width over height, a number of at least 1")
        if self.min_side is not None and self.min_side < 0:
            raise ConfigError(f"--min-side is {self.min_side}; it must be at least 0 px")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"--quality is {self.quality}; it must lie between 1 and 100")
        if not self.shard_mb > 0:
            raise ConfigError(f"--shard-mb is {self.shard_mb:g}; it must be above 0")
        for name, weight in self.captions.items():
            if not 0 < weight < math.inf:
                raise ConfigError(f"--caption {name}={weight:g}: the weight must be a number above 0")

    @cached_property
    def buckets(self) -> list[tuple[int, int]]:
        """The shapes of stored pictures."""
        return bucket_sizes(self.size, self.patch, self.max_ratio)

    def fingerprint(self, *others: str) -> str:
        """A hash of these settings and of `others`."""
        text = json.dumps([asdict(self), *others], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def parse_captions(words: list[str]) -> dict[str, float]:
    """["long=0.7", "short=0.3"] -> {"long": 0.7, "short": 0.3}; a bare name has weight 1."""
    weights = {}
    for word in words:
        name, equals, weight = word.partition("=")
        try:
            weights[name] = float(weight) if equals else 1.0
        except ValueError:
            raise ConfigError(f"--caption {word}: the weight must be a number, as in long=0.7") from None
        if not name:
            raise ConfigError(f"--caption {word}: the column has no name")
    return weights
