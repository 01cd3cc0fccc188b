"""The order in which a set's rows are seen: a pure function of (seed, epoch, position).

The set is one endless sequence, epoch after epoch, and is cut into blocks of `block` samples (the batch of all ranks
together). Each epoch is a permutation of the rows:

1. Shards are shuffled; 16 at a time form a window, and a window's rows are shuffled among themselves. So a pass touches
   few shards at a time, and a set of up to 16 shards is shuffled as a whole.
2. Going through that sequence, each bucket's rows are collected; `block` of them make a block of this bucket's shape.
3. The remainders of the buckets, fewer than `block` rows each, are sorted by shape and make up blocks too; such a block
   takes the shape of its median row, and the others are cropped to it.
4. The number of rows need not divide by `block`. The block that lies across the end of an epoch holds the last rows of
   this epoch and the first of the next, from the middle of the sorted remainders of each; it has this one's shape.

So every row is seen exactly once an epoch, every block is full and has one shape, and it need not be known what was
read before: ranks, workers and resumed runs compute the same order from the position alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WINDOW = 16
"""Shards whose rows are shuffled among each other."""


@dataclass(frozen=True)
class Epoch:
    """One epoch: rows [N] in order; `head` rows complete the last epoch's block; the bucket of each following block."""

    rows: np.ndarray
    head: int
    buckets: np.ndarray


class Order:
    """The order of a set whose row i lies in shard `shards[i]` and fits bucket `buckets[i]`, both [N] integers.

    `stream` tells sets of one run apart. Buckets are numbered by shape, from tallest to widest.
    """

    def __init__(self, shards: np.ndarray, buckets: np.ndarray, block: int, seed: int, stream: int = 0) -> None:
        if len(shards) == 0 or block < 1:
            raise ValueError("an order needs at least one row and blocks of at least one")
        self.shards, self.buckets, self.block, self.seed, self.stream = shards, buckets, block, seed, stream
        self._by_shard = np.argsort(shards, kind="stable")
        self._epoch: Callable[[int], Epoch] = lru_cache(maxsize=3)(self._arrange)

    def __len__(self) -> int:
        return len(self.shards)

    def row(self, position: int) -> int:
        """The row that sample number `position` shows."""
        epoch, place = divmod(position, len(self))
        return int(self._epoch(epoch).rows[place])

    def bucket(self, position: int) -> int:
        """The bucket whose shape the block of sample number `position` has."""
        start = position // self.block * self.block
        number, place = divmod(start, len(self))
        epoch = self._epoch(number)
        return int(epoch.buckets[(place - epoch.head) // self.block])

    def _arrange(self, number: int) -> Epoch:
        rng = np.random.default_rng([self.seed, self.stream, number])
        sequence = self._shuffled(rng)
        n, block = len(sequence), self.block
        head = min(n, -number * n % block)
        tail = (n - head) % block
        full, bucket_of_full, rest = self._collect(sequence)
        while len(rest) < head + tail:  # then by exactly one block
            rest, full, bucket_of_full = np.concatenate([full[-1], rest]), full[:-1], bucket_of_full[:-1]
        rest = rest[np.argsort(self.buckets[rest], kind="stable")]
        # The rows that join another epoch's come from the middle, where shapes are nearest to each other.
        low = (len(rest) - head - tail) // 2 // block * block
        first, last = rest[low : low + head], rest[low + head : low + head + tail]
        mixed = np.concatenate([rest[:low], rest[low + head + tail :]]).reshape(-1, block)
        rows = np.concatenate([first, full.reshape(-1), mixed.reshape(-1), last])
        buckets = np.concatenate([bucket_of_full, self.buckets[mixed[:, block // 2]]])
        if tail:
            buckets = np.append(buckets, self.buckets[last[tail // 2]])
        return Epoch(rows, head, buckets)

    def _shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """All rows, shuffled within windows of shuffled shards."""
        starts = np.searchsorted(self.shards[self._by_shard], np.unique(self.shards))
        groups = np.split(self._by_shard, starts[1:])
        shuffled = rng.permutation(len(groups))
        windows = [shuffled[i : i + WINDOW] for i in range(0, len(groups), WINDOW)]
        return np.concatenate([rng.permutation(np.concatenate([groups[g] for g in w])) for w in windows])

    def _collect(self, sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Full blocks [K, block] in the order in which they fill up, their buckets [K], and the rows left over."""
        blocks, buckets, filled, rest = [], [], [], []
        of_sequence = self.buckets[sequence]
        for bucket in np.unique(of_sequence):
            places = np.flatnonzero(of_sequence == bucket)
            whole = len(places) // self.block * self.block
            blocks.append(sequence[places[:whole]].reshape(-1, self.block))
            filled.append(places[:whole].reshape(-1, self.block)[:, -1])
            buckets.append(np.full(whole // self.block, bucket))
            rest.append(sequence[places[whole:]])
        by_time = np.argsort(np.concatenate(filled), kind="stable")
        return np.concatenate(blocks)[by_time], np.concatenate(buckets)[by_time], np.concatenate(rest)
