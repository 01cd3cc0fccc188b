"""Which of several sets a block comes from: exact over time, and computed from the block's number alone."""

from __future__ import annotations

import numpy as np

PERIOD = 10_000
"""Weights are rounded to parts of this many blocks, after which the schedule repeats."""


class Mixing:
    """A schedule of blocks over sets with `weights` (any positive numbers; only their ratios count).

    Smooth weighted round-robin: after any number of blocks, each set has had its share of them to within one block
    for two sets, and to within the number of sets for more; over a period the shares are exact to 1 in 10,000.
    """

    def __init__(self, weights: list[float]) -> None:
        if not weights or min(weights) <= 0:
            raise ValueError("mixing needs at least one weight, all above 0")
        share = np.array(weights, dtype=np.float64) / sum(weights) * PERIOD
        parts = np.maximum(1, np.floor(share)).astype(np.int64)
        for i in np.argsort(parts - share, kind="stable")[: max(0, PERIOD - int(parts.sum()))]:
            parts[i] += 1
        parts //= np.gcd.reduce(parts)
        total, credit = int(parts.sum()), np.zeros(len(parts), dtype=np.int64)
        self._set_of = np.empty(total, dtype=np.int64)
        for k in range(total):
            credit += parts
            chosen = int(credit.argmax())
            credit[chosen] -= total
            self._set_of[k] = chosen
        one_hot = self._set_of[:, None] == np.arange(len(parts))
        self._before = np.concatenate([np.zeros((1, len(parts)), dtype=np.int64), one_hot.cumsum(axis=0)])

    def locate(self, block: int) -> tuple[int, int]:
        """(set, which of the set's own blocks) of block number `block`."""
        period, place = divmod(block, len(self._set_of))
        chosen = int(self._set_of[place])
        return chosen, int(period * self._before[-1, chosen] + self._before[place, chosen])
