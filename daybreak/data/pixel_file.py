"""Pictures decoded once, into a file on disk that vanishes with the process, and read from there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 256
"""How many pictures are decoded before the first of them is asked for, at most: they wait in memory."""


class PixelFile:
    """Squares of `side` px, written one after another."""

    def __init__(self, side: int) -> None:
        self.side, self.count = side, 0
        self._file = tempfile.TemporaryFile(prefix="daybreak-")  # noqa: SIM115 - lives as long as the array

    def add(self, pixels: np.ndarray) -> None:
        """One picture [S, S, 3] uint8."""
        self._file.write(pixels.tobytes())
        self.count += 1

    def array(self) -> np.ndarray:
        """All that were added: [N, S, S, 3] uint8, backed by the file."""
        shape = (self.count, self.side, self.side, 3)
        if not self.count:
            return np.empty(shape, dtype=np.uint8)  # an empty file cannot be mapped
        self._file.flush()
        return np.memmap(self._file, dtype=np.uint8, mode="r", shape=shape)


def threaded(work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[A, B]]:
    """(item, work(item)) in the items' order, worked on by as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        remaining = iter(items)
        while chunk := list(islice(remaining, AHEAD)):
            yield from zip(chunk, pool.map(work, chunk), strict=True)
