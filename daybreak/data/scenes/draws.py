"""Random numbers that are a function of (seed, index, name): any worker draws the same ones, in any order."""

from __future__ import annotations

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): [...] uint64 -> [...] uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """The random numbers of a batch of samples.

    `seed` is a non-negative integer, `index` [B] the samples' numbers. Each draw has a name, and the same name gives
    the same numbers each time.
    """

    def __init__(self, seed: int, index: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            start = _mix(np.array([seed], dtype=np.uint64) + _GOLDEN)
            self._state = _mix(start + index.astype(np.uint64) * _GOLDEN)

    def uniform(self, name: str, n: int = 1) -> np.ndarray:
        """[B, n] float64, uniform in [0, 1)."""
        with np.errstate(over="ignore"):
            fields = np.arange(n, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode())) * np.uint64(64)
            bits = _mix(self._state[:, None] + _mix(fields * _GOLDEN)[None])
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integer(self, name: str, high: int, n: int = 1) -> np.ndarray:
        """[B, n] int64, uniform in 0 .. high - 1."""
        return (self.uniform(name, n) * high).astype(np.int64)
