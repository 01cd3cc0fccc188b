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
    """Pictures of any shapes, written one after another, and read by their number."""

    def __init__(self) -> None:
        self._shapes: list[tuple[int, ...]] = []
        self._starts = [0]
        self._file = tempfile.TemporaryFile(prefix="daybreak-")  # noqa: SIM115 - lives as long as the array
        self._bytes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._shapes)

    def add(self, pixels: np.ndarray) -> None:
        """One picture [H, W, 3] uint8, or a mask [H, W]."""
        self._file.write(pixels.tobytes())
        self._shapes.append(pixels.shape)
        self._starts.append(self._starts[-1] + pixels.size)
        self._bytes = None

    def __getitem__(self, number: int) -> np.ndarray:
        """Picture `number` as it was added, backed by the file. IndexError beyond the last."""
        start, shape = self._starts[number], self._shapes[number]
        return self._mapped()[start : self._starts[number + 1]].reshape(shape)

    def array(self) -> np.ndarray:
        """All that were added, where they have one shape: [N, H, W, 3] uint8, backed by the file."""
        if not self._shapes:
            return np.empty((0, 0, 0, 3), dtype=np.uint8)  # an empty file cannot be mapped
        return self._mapped().reshape(-1, *self._shapes[0])

    def _mapped(self) -> np.ndarray:
        if self._bytes is None:
            self._file.flush()
            self._bytes = np.memmap(self._file, dtype=np.uint8, mode="r", shape=(self._starts[-1],))
        return self._bytes


def threaded(work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[A, B]]:
    """(item, work(item)) in the items' order, worked on by as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        remaining = iter(items)
        while chunk := list(islice(remaining, AHEAD)):
            yield from zip(chunk, pool.map(work, chunk), strict=True)
