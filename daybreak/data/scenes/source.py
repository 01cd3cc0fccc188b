"""`scenes` as training data: sample n is a function of (seed, n)."""

from __future__ import annotations

import functools

import numpy as np
import torch

from daybreak.data.batch import Batch, Phrase
from daybreak.data.scenes.captions import captions_of, phrases_of, specs_of
from daybreak.data.scenes.dense import Mentions, dense_captions
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import Scenes, training_scenes
from daybreak.data.scenes.render import render
from daybreak.data.scenes.shapes import EXTENT
from daybreak.data.scenes.world import SHAPES, TASKS, SceneSpec

DEFAULT_TASK_WEIGHTS = (1.0,) * len(TASKS)
CAPTIONS_AT_ONCE = 1000
"""What is held of many captions' scenes at a time: more would keep the garbage collector busy."""


class ScenesSource:
    """An endless stream of scenes at `resolution` px that never repeats. Raises ValueError outside 32..1024 px.

    dense: the share of dense captions (dense.py); the others say what their task asks for, as prompts do.
    """

    def __init__(
        self, resolution: int, seed: int = 0, task_weights: tuple[float, ...] = DEFAULT_TASK_WEIGHTS, dense: float = 0.0
    ) -> None:  # fmt: skip
        if not 32 <= resolution <= 1024:
            raise ValueError(f"data.resolution is {resolution}; scenes can be rendered from 32 to 1024 px")
        self.resolution = resolution
        self.seed = seed
        self.task_weights = task_weights
        self.dense = dense

    def batch(self, position: int, size: int) -> Batch:
        """Scenes number `position` to `position + size - 1`."""
        scenes, specs, captions, dense = self._described(position, size)
        phrases = [
            _phrases(scenes, i, dense.get(i) or _mentions(scenes, i, spec, caption))
            for i, (spec, caption) in enumerate(zip(specs, captions, strict=True))
        ]
        return Batch(torch.from_numpy(render(scenes, self.resolution)), captions, phrases=phrases)

    def scenes(self, position: int, size: int) -> tuple[np.ndarray, list[SceneSpec], list[str]]:
        """Pictures [size, 3, H, W] in [-1, 1], what short captions say, and the captions."""
        scenes, specs, captions, _ = self._described(position, size)
        return render(scenes, self.resolution), specs, captions

    def some_captions(self, n: int) -> list[str]:
        """The first n captions of the stream."""
        return list(_some_captions(self.seed, tuple(self.task_weights), self.dense, n))

    def _described(self, position: int, size: int) -> tuple[Scenes, list[SceneSpec], list[str], dict[int, Mentions]]:
        """Scenes, what short captions say of them, the captions, and by row what the dense ones mention."""
        draws = Draws(self.seed, np.arange(position, position + size))
        scenes = training_scenes(draws, self.task_weights)
        specs = specs_of(scenes, draws)
        captions = captions_of(specs, draws)
        mentions: dict[int, Mentions] = {}
        if self.dense:
            dense = draws.uniform("dense")[:, 0] < self.dense
            for i, (caption, mentioned) in enumerate(dense_captions(scenes, draws)):
                if dense[i]:
                    captions[i], mentions[i] = caption, mentioned
        return scenes, specs, captions, mentions

    def describe(self) -> str:
        """One line for the log."""
        return f"scenes at {self.resolution} px, endless, seed {self.seed}"


@functools.lru_cache(maxsize=4)
def _some_captions(seed: int, task_weights: tuple[float, ...], dense: float, n: int) -> tuple[str, ...]:
    """Kept: the tokenizer, the list of words and every other run of the same process read the same ones."""
    source = ScenesSource(32, seed, task_weights, dense)
    found: list[str] = []
    for start in range(0, n, CAPTIONS_AT_ONCE):
        found += source._described(start, min(CAPTIONS_AT_ONCE, n - start))[2]
    return tuple(found)


def _mentions(scenes: Scenes, row: int, spec: SceneSpec, caption: str) -> Mentions:
    """Where a short caption names objects of the scene; two of them differ in shape, which tells them apart."""
    found = phrases_of(spec, caption)
    if spec.task == "counting":
        return found
    shapes = [SHAPES[s] for s in scenes.shape[row, : len(spec.objects)]]
    return [(start, end, (shapes.index(spec.objects[i].shape),)) for start, end, (i,) in found]


def _phrases(scenes: Scenes, row: int, mentions: Mentions) -> list[Phrase]:
    """Each mention with the box around all that it speaks of."""
    phrases = []
    for start, end, objects in mentions:
        reach = [EXTENT[SHAPES[scenes.shape[row, k]]] * float(scenes.radius[row, k]) for k in objects]
        x, y = ([float(v[row, k]) for k in objects] for v in (scenes.x, scenes.y))
        left, top = (min(p - r for p, r in zip(axis, reach, strict=True)) for axis in (x, y))
        right, bottom = (max(p + r for p, r in zip(axis, reach, strict=True)) for axis in (x, y))
        phrases.append(Phrase(start, end, (left, top, right, bottom)))
    return phrases
