"""The shapes that pictures are brought to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybreak.data.shards.buckets import bucket_sizes, crop_box, nearest_bucket


@given(st.integers(1, 64), st.sampled_from([1, 2, 4, 6, 8, 14, 16, 32]), st.floats(1.0, 4.0))
def test_sides_divide_and_areas_agree(patches, patch, max_ratio):
    size = patches * patch
    buckets = bucket_sizes(size, patch, max_ratio)
    assert (size, size) in buckets
    for w, h in buckets:
        assert w % patch == h % patch == 0
        assert 0.85 * size * size <= w * h <= size * size
        assert max(w, h) <= max_ratio * min(w, h)
        assert (h, w) in buckets
    ratios = [w / h for w, h in buckets]
    assert ratios == sorted(ratios)
    assert len(set(ratios)) == len(ratios)
    assert len(buckets) <= max(2 * patches, 40)  # most where the number of patches is prime


def test_half_the_size_has_half_the_buckets():
    assert [(w // 2, h // 2) for w, h in bucket_sizes(1024, 32, 2.0)] == bucket_sizes(512, 32, 2.0)
    assert (1344, 768) in bucket_sizes(1024, 32, 2.0)


def test_squares_only():
    assert bucket_sizes(512, 32, 1.0) == [(512, 512)]


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_crop_has_the_buckets_shape_and_loses_least(w, h):
    buckets = bucket_sizes(512, 32, 2.0)
    bucket = buckets[nearest_bucket(w, h, buckets)]
    left, top, right, bottom = crop_box(w, h, bucket)
    assert math.isclose((right - left) / (bottom - top), bucket[0] / bucket[1], rel_tol=1e-6)
    assert left == 0 or top == 0
    assert left >= 0 and top >= 0 and right <= w and bottom <= h
    error = abs(math.log(w / h) - math.log(bucket[0] / bucket[1]))
    assert all(error <= abs(math.log(w / h) - math.log(b[0] / b[1])) + 1e-9 for b in buckets)


def test_a_patch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="does not divide"):
        bucket_sizes(100, 32, 2.0)
