"""What a voter sees: which pairs, in which order, and which contestant on which side."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Pair:
    """Two contestants' pictures of one prompt; contestants and prompts go by their number in the study."""

    item: int
    left: int
    right: int


def pairs_of_study(items: int, contestants: int, limit: int | None, seed: int) -> list[Pair]:
    """Every two contestants on every prompt, or `limit` of these, drawn with `seed` and the same for all voters.

    All voters judge the same pairs, since only then can their agreement be measured. A limit takes prompts in random
    order and every contestant pair in turn, so that no contestant pair is asked more than once above another.
    """
    couples = list(combinations(range(contestants), 2))
    order = list(range(items))
    if limit is not None:
        random.Random(f"pairs {seed}").shuffle(order)
    rounds = range(len(couples))
    rows = [Pair(item, *couples[(at + k) % len(couples)]) for k in rounds for at, item in enumerate(order)]
    return rows[:limit]


def schedule(pairs: list[Pair], seed: int, voter: int) -> list[Pair]:
    """`pairs` in this voter's own order and on this voter's own sides: a function of (seed, voter).

    Of every two contestants, each stands on the left in half of their pairs (give or take one), so that a voter who
    leans to one side favours neither.
    """
    chance = random.Random(f"schedule {seed} {voter}")
    shuffled = list(pairs)
    chance.shuffle(shuffled)
    swaps = {}
    for couple, n in Counter((p.left, p.right) for p in pairs).items():
        odd_one = chance.random() < 0.5
        swaps[couple] = [(k % 2 == 0) == odd_one for k in range(n)]
        chance.shuffle(swaps[couple])
    return [Pair(p.item, p.right, p.left) if swaps[p.left, p.right].pop() else p for p in shuffled]
