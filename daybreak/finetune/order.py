"""Which pictures of a cache each step sees, and its batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from daybreak.data.shards.order import Order as BlockOrder
from daybreak.finetune.cache import Cache
from daybreak.finetune.settings import FinetuneSettings


class Order:
    """Which pictures a step sees: every training picture once an epoch, in an order that follows from seed and epoch.

    Steps have one shape where there are enough pictures of it; those that are left over make up mixed ones, in which
    each keeps its shape (`data/shards/order.py`). Within a step pictures are sorted by shape. With prior pictures half
    of a batch is of them.

    shape_of: the number of each picture's shape.
    """

    def __init__(
        self, training: list[int], prior: list[int], batch: int, seed: int, shape_of: Callable[[int], int]
    ) -> None:
        self._shape_of = shape_of
        self._parts = [self._part(training, batch - batch // 2 if prior else batch, seed)]
        if prior:
            self._parts.append(self._part(prior, batch // 2, seed + 1))

    def _part(self, numbers: list[int], count: int, seed: int) -> tuple[list[int], int, BlockOrder]:
        shapes = np.array([self._shape_of(n) for n in numbers])
        return numbers, count, BlockOrder(np.zeros(len(numbers), int), shapes, count, seed)

    @property
    def own(self) -> int:
        """Of a batch, how many are the user's pictures; the others are prior ones."""
        return self._parts[0][1]

    def steps(self, epochs: float) -> int:
        """Steps that see each training picture `epochs` times."""
        return max(1, math.ceil(epochs * len(self._parts[0][0]) / self.own))

    def rows(self, step: int) -> list[int]:
        """Numbers of the pictures of step number `step`, from 0."""
        numbers = [
            part[order.row(n)] for part, count, order in self._parts for n in range(step * count, (step + 1) * count)
        ]
        return sorted(numbers, key=self._shape_of)


@dataclass(frozen=True)
class CachedBatch:
    """numbers: of the cache's pictures; captions: drawn for this step; weights [B]: of each picture in the whole batch.

    cuts: where the shape changes, here or at another process's share of the step. canvas: height and width that hold
    every x0 of the step.
    """

    numbers: list[int]
    captions: list[str]
    weights: Tensor
    cuts: tuple[int, ...]
    canvas: tuple[int, int]

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, rows: slice) -> CachedBatch:
        """Some of the pictures."""
        return replace(self, numbers=self.numbers[rows], captions=self.captions[rows], weights=self.weights[rows])

    def parts(self, at_once: int) -> list[slice]:
        """Pictures of one shape each, at most `at_once`; as many parts at every process, since all gather weights."""
        edges = [0, *self.cuts, len(self)]
        return [slice(i, min(end, i + at_once)) for start, end in pairwise(edges) for i in range(start, end, at_once)]

    def pinned(self) -> CachedBatch:
        """The pictures lie in the cache."""
        return self


class CachedPictures:
    """A cache as a source of batches.

    The user's pictures and the prior ones each count by their own mean (DreamBooth, arXiv 2208.12242, eq. 2).
    """

    def __init__(self, cache: Cache, order: Order, settings: FinetuneSettings, side: int) -> None:
        self._cache, self._order, self._settings, self._side = cache, order, settings, side
        self._prior = frozenset(cache.prior)

    def batch(self, position: int, size: int) -> CachedBatch:
        """Samples number `position` to `position + size - 1`; they are of one step."""
        s, own = self._settings, self._order.own
        step, first = divmod(position, s.batch)
        every = self._order.rows(step)
        shapes = [self._cache.at[n][0] for n in every]
        changes = [i for i in range(1, len(every)) if shapes[i] != shapes[i - 1]]
        cuts = {i % size for i in changes} - {0}
        sides = [self._cache.rows[shape].shape[-2:] for shape in set(shapes)]
        numbers = every[first : first + size]
        captions = [self._cache.drawn(row, s, step) for row in numbers]
        weights = [s.prior_weight / (s.batch - own) if n in self._prior else 1 / own for n in numbers]
        canvas = max(h for h, _ in sides), max(w for _, w in sides)
        return CachedBatch(numbers, captions, torch.tensor(weights), tuple(sorted(cuts)), canvas)

    def some_captions(self, n: int) -> list[str]:
        """See `Source`."""
        return self._cache.captions[:n]

    def key(self, n: int) -> str:
        """What sample number n is called: the number of its row in RUN/cache, and its caption."""
        step, place = divmod(n, self._settings.batch)
        row = self._order.rows(step)[place]
        return f"{row}: {self._cache.captions[row]}"

    def describe(self) -> str:
        """See `Source`."""
        c = self._cache
        shapes = f", {len(c.shapes)} shapes" if len(c.shapes) > 1 else ""
        held = f", {len(c.held_out)} held out" if c.held_out else ", none held out"
        prior = f", {len(c.prior)} of the class" if c.prior else ""
        return f"{len(c.training)} pictures{held}{prior} at {self._side} px{shapes}"
