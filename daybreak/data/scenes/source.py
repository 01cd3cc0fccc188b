"""`scenes` as training data: sample n is a function of (seed, n)."""

from __future__ import annotations

import numpy as np
import torch

from daybreak.data.batch import Batch
from daybreak.data.scenes.captions import captions_of, specs_of
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import Scenes, training_scenes
from daybreak.data.scenes.render import render
from daybreak.data.scenes.world import TASKS, SceneSpec

DEFAULT_TASK_WEIGHTS = (1.0,) * len(TASKS)
CAPTIONS_AT_ONCE = 1000
"""What is held of many captions' scenes at a time: more would keep the garbage collector busy."""


class ScenesSource:
    """An endless stream of scenes at `resolution` px that never repeats. Raises ValueError outside 32..1024 px."""

    def __init__(self, resolution: int, seed: int = 0, task_weights: tuple[float, ...] = DEFAULT_TASK_WEIGHTS) -> None:
        if not 32 <= resolution <= 1024:
            raise ValueError(f"data.resolution is {resolution}; scenes can be painted from 32 to 1024 px")
        self.resolution = resolution
        self.seed = seed
        self.task_weights = task_weights

    def batch(self, position: int, size: int) -> Batch:
        """Scenes number `position` to `position + size - 1`."""
        pictures, _, captions = self.scenes(position, size)
        return Batch(torch.from_numpy(pictures), captions)

    def scenes(self, position: int, size: int) -> tuple[np.ndarray, list[SceneSpec], list[str]]:
        """Pictures [size, 3, H, W] in [-1, 1], what their captions say, and the captions."""
        scenes, specs, captions = self._described(position, size)
        return render(scenes, self.resolution), specs, captions

    def some_captions(self, n: int) -> list[str]:
        """The first n captions of the stream."""
        found: list[str] = []
        for start in range(0, n, CAPTIONS_AT_ONCE):
            found += self._described(start, min(CAPTIONS_AT_ONCE, n - start))[2]
        return found

    def _described(self, position: int, size: int) -> tuple[Scenes, list[SceneSpec], list[str]]:
        draws = Draws(self.seed, np.arange(position, position + size))
        scenes = training_scenes(draws, self.task_weights)
        specs = specs_of(scenes, draws)
        return scenes, specs, captions_of(specs, draws)

    def describe(self) -> str:
        """One line for the log."""
        return f"scenes at {self.resolution} px, endless, seed {self.seed}"
