"""Captioned pictures as users have them, for training on squares: what `daybreak prepare` takes, read as it reads it.

What cannot be used is counted and listed with its reason, never silently lost.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from daybreak.data.batch import Batch, Skipped
from daybreak.data.captioned import Left, list_rows, none_usable, read_captioned
from daybreak.data.changes import as_checks
from daybreak.data.pictures import open_square
from daybreak.data.pixel_file import PixelFile
from daybreak.data.reading.settings import Lines, Reading

_CAPTION = 2
"""Name of the random stream that draws among several captions."""


class FolderSource:
    """Captioned pictures of a folder, decoded once into a temporary file on disk and read from there.

    Every usable picture is seen once an epoch; the order of epoch e is a function of (seed, e). `skipped` lists what
    could not be used; `checks` tells each usable picture and its captions (`changes.py`). Raises ConfigError where
    nothing can be used.
    """

    def __init__(
        self,
        folder: Path | str,
        resolution: int,
        seed: int,
        background: tuple[int, int, int],
        flip: bool = False,
        lines: Lines = "whole",
    ) -> None:
        self.folder, self.resolution, self.seed, self.flip = folder, resolution, seed, flip
        self.skipped, rows = list_rows(str(folder), Reading(lines=lines))
        self.captions: list[tuple[str, ...]] = []
        pixels, checks = PixelFile(), []
        for found in read_captioned(rows, lambda file, _: open_square(file, resolution, background)):
            if isinstance(found, Left):
                self.skipped.append(Skipped(found.key, found.reason))
                continue
            pixels.add(found.made)
            checks.append(found.check)
            self.captions.append(tuple(text for text, _ in found.choices))
        self._pixels, self.checks = pixels.array(), as_checks(checks)
        if not self.captions:
            raise none_usable(str(folder), self.skipped)
        # Cached, since a batch asks for it row by row; the cache is safe to share between reading threads.
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, position: int, size: int) -> Batch:
        """Samples number `position` to `position + size - 1` of the endless sequence of shuffled epochs."""
        numbers = range(position, position + size)
        rows = [self._row(n) for n in numbers]
        pixels = np.stack([self._pixels[r] for r in rows])
        if self.flip:
            for i, n in enumerate(numbers):
                if np.random.default_rng([self.seed, 1, n]).random() < 0.5:
                    pixels[i] = pixels[i, :, ::-1]
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        return Batch(images.contiguous(), [self._caption(r, n) for r, n in zip(rows, numbers, strict=True)])

    def _caption(self, row: int, n: int) -> str:
        """One of a row's captions, drawn for sample number n."""
        captions = self.captions[row]
        if len(captions) == 1:
            return captions[0]
        return captions[int(np.random.default_rng([self.seed, _CAPTION, n]).integers(len(captions)))]

    def _row(self, n: int) -> int:
        epoch, place = divmod(n, len(self))
        return int(self._order(epoch)[place])

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))

    def some_captions(self, n: int) -> list[str]:
        """The first n captions of the folder, or all where there are fewer."""
        return [captions[0] for captions in self.captions[:n]]

    def describe(self) -> str:
        """One line for the log."""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        several = sum(len(c) > 1 for c in self.captions)
        drawn = f", {several} of them with several captions, of which one is drawn each time" if several else ""
        return f"{self.folder}: {len(self)} captioned pictures at {self.resolution} px{drawn}{skipped}"
