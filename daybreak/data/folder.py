"""A folder of captioned pictures: a Hugging Face ImageFolder, or pictures with a .txt beside each.

What cannot be used is counted and listed with its reason, never silently lost.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from daybreak.config import ConfigError
from daybreak.data.batch import Batch, Skipped
from daybreak.data.listing import Item, list_items
from daybreak.data.pictures import PictureError, open_square
from daybreak.data.pixel_file import PixelFile, threaded


class FolderSource:
    """Captioned pictures of a folder, decoded once into a temporary file on disk and read from there.

    Every usable picture is seen once an epoch; the order of epoch e is a function of (seed, e). `skipped` lists what
    could not be used. Raises ConfigError where nothing can.
    """

    def __init__(
        self, folder: Path, resolution: int, seed: int, background: tuple[int, int, int], flip: bool = False
    ) -> None:
        self.folder, self.resolution, self.seed, self.flip = folder, resolution, seed, flip
        self.skipped: list[Skipped] = []
        items = []
        for item in list_items(folder):
            if item.caption:
                items.append(item)
            else:
                self.skipped.append(Skipped(str(item.path), "no caption"))
        self.captions: list[str] = []
        self._pixels = self._decode(items, background)
        if not self.captions:
            reasons = sorted({s.reason for s in self.skipped})
            raise ConfigError(
                f"--data {folder}: none of its {len(self.skipped)} items is usable ({'; '.join(reasons[:3])})"
            )
        # Cached, since a batch asks for it row by row; the cache is safe to share between reading threads.
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _decode(self, items: list[Item], background: tuple[int, int, int]) -> np.ndarray:
        """The usable ones of `items`: [N, S, S, 3] uint8."""
        pixels = PixelFile(self.resolution)

        def decode(item: Item) -> np.ndarray | str:
            try:
                return open_square(item.path, self.resolution, background)
            except PictureError as e:
                return str(e)

        for item, result in threaded(decode, items):
            if isinstance(result, str):
                self.skipped.append(Skipped(str(item.path), result))
            else:
                pixels.add(result)
                self.captions.append(item.caption)
        return pixels.array()

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
        return Batch(images.contiguous(), [self.captions[r] for r in rows])

    def _row(self, n: int) -> int:
        epoch, place = divmod(n, len(self))
        return int(self._order(epoch)[place])

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(len(self))

    def some_captions(self, n: int) -> list[str]:
        """The first n captions of the folder, or all where there are fewer."""
        return self.captions[:n]

    def describe(self) -> str:
        """One line for the log."""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{self.folder}: {len(self)} captioned pictures at {self.resolution} px{skipped}"
