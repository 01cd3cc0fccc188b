"""The embedded world: deterministic, within its bounds, and never a held-out combination."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.data.scenes.captions import captions_of, specs_of
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import GAP, MARGIN, training_scenes
from daybreak.data.scenes.render import render
from daybreak.data.scenes.shapes import EXTENT, coverage
from daybreak.data.scenes.source import DEFAULT_TASK_WEIGHTS, ScenesSource
from daybreak.data.scenes.world import (
    COLOR_NAMES,
    RELATIONS,
    SHAPES,
    TASKS,
    is_held_out_arrangement,
    is_held_out_pair,
)

N = 4000
DRAWS = Draws(3, np.arange(N))
SCENES = training_scenes(DRAWS, DEFAULT_TASK_WEIGHTS)


def test_a_sample_depends_on_seed_and_index_alone():
    source = ScenesSource(32, seed=5)
    whole = source.batch(100, 64)
    parts = [source.batch(100, 1), source.batch(101, 40), source.batch(141, 23)]
    assert np.array_equal(whole.images.numpy(), np.concatenate([p.images.numpy() for p in parts]))
    assert whole.captions == [c for p in parts for c in p.captions]
    assert ScenesSource(32, seed=6).batch(100, 64).captions != whole.captions


def test_draws_are_uniform_and_uncorrelated():
    a, b = DRAWS.uniform("a", 2).T
    c = Draws(4, np.arange(N)).uniform("a")[:, 0]
    for x in (a, b, c):
        assert abs(x.mean() - 0.5) < 4 * np.sqrt(1 / 12 / N)
        assert abs(x.var() - 1 / 12) < 0.004
    assert abs(np.corrcoef([a, b, c, np.roll(a, 1)]) - np.eye(4)).max() < 0.07


def test_training_never_shows_a_held_out_combination():
    for i in range(N):
        for k in range(SCENES.count[i]):
            assert not is_held_out_pair(COLOR_NAMES[SCENES.color[i, k]], SHAPES[SCENES.shape[i, k]])
        if SCENES.count[i] == 2 and SCENES.shape[i, 0] != SCENES.shape[i, 1]:
            a, b = (SHAPES[SCENES.shape[i, k]] for k in range(2))
            assert not is_held_out_arrangement(a, RELATIONS[SCENES.relation[i]], b)
    assert not any(s.held_out for s in specs_of(SCENES, DRAWS))


def test_pictures_do_not_show_a_held_out_arrangement_by_the_place_of_their_objects():
    two = np.flatnonzero((SCENES.count == 2) & (SCENES.shape[:, 0] != SCENES.shape[:, 1]))
    for i in two:
        dx, dy = SCENES.x[i, 1] - SCENES.x[i, 0], SCENES.y[i, 1] - SCENES.y[i, 0]
        relation = ("left of" if dx > 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy > 0 else "below")
        assert relation == RELATIONS[SCENES.relation[i]]


def test_every_training_combination_occurs():
    seen = {
        (COLOR_NAMES[SCENES.color[i, k]], SHAPES[SCENES.shape[i, k]]) for i in range(N) for k in range(SCENES.count[i])
    }
    assert len(seen) == len(COLOR_NAMES) * len(SHAPES) - len(SHAPES)
    assert set(SCENES.task) == set(range(len(TASKS)))
    assert set(SCENES.count[SCENES.task == TASKS.index("counting")]) == {1, 2, 3, 4}


def test_held_out_arrangements_are_a_fixed_share_and_their_reverses_are_not_held_out():
    relations = ("left of", "above")
    triples = [(a, r, b) for a in SHAPES for r in relations for b in SHAPES if a != b]
    held = [t for t in triples if is_held_out_arrangement(*t)]
    assert len(held) == 12
    for a, r, b in held:
        assert not is_held_out_arrangement(b, r, a)
        assert is_held_out_arrangement(b, {"left of": "right of", "above": "below"}[r], a)


def test_objects_keep_their_margin_and_do_not_touch():
    extent = SCENES.radius * np.array([EXTENT[s] for s in SHAPES])[SCENES.shape]
    for k in range(4):
        there = SCENES.count > k
        for place in (SCENES.x, SCENES.y):
            assert (place[there, k] - extent[there, k] >= MARGIN - 1e-9).all()
            assert (place[there, k] + extent[there, k] <= 1 - MARGIN + 1e-9).all()
    for i in range(N):
        for a in range(SCENES.count[i]):
            for b in range(a):
                apart = max(abs(SCENES.x[i, a] - SCENES.x[i, b]), abs(SCENES.y[i, a] - SCENES.y[i, b]))
                assert apart - extent[i, a] - extent[i, b] >= GAP - 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_the_share_of_the_pixel_that_the_shape_covers(shape):
    x, y, radius = np.array([0.47]), np.array([0.52]), np.array([0.3])
    small = coverage(shape, x, y, radius, 32)[0]
    fine = coverage(shape, x, y, radius, 512)[0].reshape(32, 16, 32, 16).mean(axis=(1, 3))
    assert abs(small - fine).max() < 0.3  # corners are rounded by the distance's ramp
    assert abs(small.sum() - fine.sum()) / fine.sum() < 0.01


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([32, 48, 64, 128]))
def test_pictures_are_in_range_and_agree_across_resolutions(index, resolution):
    draws = Draws(0, np.array([index]))
    scene = training_scenes(draws, DEFAULT_TASK_WEIGHTS)
    picture = render(scene, resolution)
    assert picture.shape == (1, 3, resolution, resolution)
    assert picture.dtype == np.float32
    assert abs(picture).max() <= 1
    double = render(scene, 2 * resolution).reshape(1, 3, resolution, 2, resolution, 2).mean(axis=(3, 5))
    assert abs(picture - double).mean() < 0.01


def test_captions_are_varied_and_say_what_their_spec_says():
    specs = specs_of(SCENES, DRAWS)
    captions = captions_of(specs, DRAWS)
    assert len(set(captions)) > 0.7 * N
    lengths = [len(c.split()) for c in captions]
    assert min(lengths) <= 2
    assert max(lengths) >= 18
    for spec, caption in zip(specs, captions, strict=True):
        words = caption.replace("crosses", "cross").split()
        singular = {w.removesuffix("s") if w.removesuffix("s") in SHAPES else w for w in words}
        for o in spec.objects:
            assert o.shape in singular or o.shape in words
            assert o.color is None or o.color in words
            assert o.size is None or o.size in words
        assert spec.background is None or spec.background in words
        unsaid = set(COLOR_NAMES) - {o.color for o in spec.objects}
        assert not unsaid & set(words)


@pytest.mark.parametrize("resolution", [16, 2048])
def test_a_resolution_outside_the_world_is_refused(resolution):
    with pytest.raises(ValueError, match="32 to 1024"):
        ScenesSource(resolution)
