"""No loss, no repeat, one order for all: for any set, mix of buckets, ranks and moment of resuming."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.data.shards.mixing import Mixing
from daybreak.data.shards.order import WINDOW, Order

sets = st.integers(1, 120).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 40), min_size=n, max_size=n),  # shard of each row
        st.lists(st.integers(0, 5), min_size=n, max_size=n),  # bucket of each row
    )
)


def order(layout, block, seed=0) -> Order:
    shards, buckets = layout
    return Order(np.array(shards), np.array(buckets), block, seed)


@settings(max_examples=100, deadline=None)
@given(sets, st.integers(1, 24), st.integers(0, 3))
def test_every_epoch_is_a_permutation(layout, block, seed):
    o = order(layout, block, seed)
    n = len(o)
    for epoch in range(3):
        assert sorted(o.row(epoch * n + i) for i in range(n)) == list(range(n))


@settings(max_examples=100, deadline=None)
@given(sets, st.integers(1, 24))
def test_blocks_are_of_one_bucket_but_for_the_remainders(layout, block):
    o = order(layout, block)
    n, buckets = len(o), layout[1]
    cropped = 0
    for start in range(0, 3 * n, block):
        shape = o.bucket(start)
        assert all(o.bucket(p) == shape for p in range(start, start + block))
        cropped += sum(buckets[o.row(p)] != shape for p in range(start, start + block))
        assert shape in buckets
    # At most what is left over of each bucket, and one more block that is broken up for an epoch's ends.
    assert cropped <= 4 * (len(set(buckets)) * (block - 1) + block)


@settings(max_examples=60, deadline=None)
@given(sets, st.integers(1, 8), st.integers(1, 4), st.integers(1, 8), st.data())
def test_ranks_and_resumes_see_one_sequence(layout, ranks, per_rank, other_ranks, data):
    block = ranks * per_rank * other_ranks  # a batch that either number of ranks divides among itself
    undisturbed = order(layout, block)
    steps = 3 * len(undisturbed) // block + 2
    expected = [[undisturbed.row(s * block + i) for i in range(block)] for s in range(steps)]
    stop = data.draw(st.integers(0, steps))
    seen = []
    for step in range(steps):
        count = ranks if step < stop else other_ranks
        share = block // count
        parts = []
        for rank in range(count):
            o = order(layout, block)  # another process, which knows nothing but the position
            parts += [o.row(step * block + rank * share + i) for i in range(share)]
            assert o.bucket(step * block + rank * share) == undisturbed.bucket(step * block)
        seen.append(parts)
    assert seen == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1000), st.integers(0, 10))
def test_one_shape_needs_no_cropping_and_another_seed_is_another_order(n, seed):
    layout = ([0] * n, [0] * n)
    a, b = order(layout, 7, seed), order(layout, 7, seed + 1)
    assert all(a.bucket(p) == 0 for p in range(0, 3 * n, 7))
    if n > 20:
        assert [a.row(i) for i in range(n)] != [b.row(i) for i in range(n)]
        assert [a.row(i) for i in range(n)] != [a.row(n + i) for i in range(n)]


def test_an_epoch_walks_through_few_shards_at_a_time():
    shards = np.repeat(np.arange(100), 50)
    o = Order(shards, np.zeros(5000, dtype=int), block=10, seed=0)
    head = -5000 % 10
    for start in range(head, 5000 - WINDOW * 50, WINDOW * 50):
        assert len({shards[o.row(start + i)] for i in range(WINDOW * 50)}) <= WINDOW
    small = Order(np.repeat(np.arange(4), 50), np.zeros(200, dtype=int), block=10, seed=0)
    assert len({small.row(i) // 50 for i in range(20)}) > 2  # a small set is shuffled as a whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=5))
def test_mixing_is_exact_over_time(weights):
    mixing = Mixing(weights)
    shares = np.array(weights) / sum(weights)
    counts = Counter()
    for block in range(2500):
        number, own = mixing.locate(block)
        assert own == counts[number]  # each set's own blocks come one after another, none left out
        counts[number] += 1
        if block % 50 == 0:
            due = shares * (block + 1)
            # Rounding to 1 in 10,000 moves a share by so much; the schedule by less than one block a set.
            slack = len(weights) + (block + 1) * len(weights) / 10_000
            assert all(abs(counts[i] - d) <= slack for i, d in enumerate(due))
    later = mixing.locate(1_000_000_007)
    assert abs(later[1] / 1_000_000_007 - shares[later[0]]) < len(weights) / 5_000


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        Mixing([1.0, 0.0])
    with pytest.raises(ValueError, match="at least one row"):
        Order(np.array([]), np.array([]), 4, 0)
