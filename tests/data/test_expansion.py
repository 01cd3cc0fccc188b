"""Expansion: what short prompts ask for is read, whoever words them, and written out without a word changed."""

import numpy as np
import pytest

from daybreak.data.scenes.captions import NUMBERS
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.expand import expand, read
from daybreak.data.scenes.layout import scenes_of
from daybreak.data.scenes.render import render
from daybreak.data.scenes.world import (
    COLOR_NAMES,
    HELD_OUT_COLOR,
    RELATIONS,
    SHAPES,
    SIZES,
    ObjectSpec,
    SceneSpec,
    is_held_out_arrangement,
    is_held_out_pair,
)
from daybreak.evaluate.composition import held_out_prompts, prompts_of_tasks
from daybreak.evaluate.judge import matches, see

PROMPTS = prompts_of_tasks(120, seed=7) + held_out_prompts(240, seed=7)
CIRCLE, SQUARE = ObjectSpec("circle", "red"), ObjectSpec("square", "blue")


def test_every_prompt_of_the_evaluation_is_read():
    for prompt in PROMPTS:
        found, meant = read(prompt.text), prompt.spec
        assert found is not None, prompt.text
        assert (found.objects, found.relation, found.background) == (meant.objects, meant.relation, meant.background)
        if meant.task != "counting" or len(meant.objects) > 1:  # one object counts like any other
            assert found.task == meant.task, prompt.text


def test_the_long_prompt_says_what_the_short_one_says_and_how_many_there_are():
    long = expand([p.text for p in PROMPTS], 3, range(len(PROMPTS)))
    for prompt, written in zip(PROMPTS, long, strict=True):
        assert written.count("%") == 2 * len(prompt.spec.objects), (prompt.text, written)
        for o in prompt.spec.objects:
            words = " ".join(w for w in (o.color, o.shape) if w)
            said = [part for part in written.split(";") if f"{words} " in part and (o.size or "") in part]
            assert len(said) >= prompt.spec.objects.count(o), (prompt.text, written)
        assert (prompt.spec.background or "") in written
        assert read(written) is None  # it is not written out again


def test_what_is_chosen_is_a_function_of_seed_and_number_alone():
    prompts = ["a circle", "two squares", "a photo of a dog", "a ring above a cross"]
    whole = expand(prompts, 5, [0, 1, 2, 3])
    assert [expand([p], 5, [i])[0] for i, p in enumerate(prompts)] == whole
    assert expand(prompts[::-1], 5, [3, 2, 1, 0]) == whole[::-1]
    assert expand(["a circle"] * 8, 5, range(8))[0] == whole[0]
    assert len(set(expand(["a circle"] * 8, 5, range(8)))) == 8
    assert expand(["a circle"], 6, [0]) != whole[:1]


def test_what_is_left_open_never_asks_for_what_training_holds_out():
    specs = [read(p) for p in ("a circle", "a ring and a cross", "two squares", "a large diamond next to a ring")]
    many = specs * 100
    scenes = scenes_of(many, Draws(1, np.arange(len(many))), as_trained=True)
    for i in range(len(many)):
        names = [SHAPES[s] for s in scenes.shape[i, : scenes.count[i]]]
        for name, color in zip(names, scenes.color[i], strict=False):
            assert not is_held_out_pair(COLOR_NAMES[color], name)
        if len(set(names)) == 2:
            assert not is_held_out_arrangement(names[0], RELATIONS[scenes.relation[i]], names[1])
    for p, written in zip(PROMPTS, expand([p.text for p in PROMPTS], 3, range(len(PROMPTS))), strict=True):
        held = any(f"{HELD_OUT_COLOR[shape]} {shape} " in written for shape in SHAPES)
        assert held == any(o.color == HELD_OUT_COLOR[o.shape] for o in p.spec.objects), (p.text, written)


def test_scenes_made_from_what_was_read_satisfy_the_short_prompt():
    some = PROMPTS[::6]
    drawn = render(scenes_of([read(p.text) for p in some], Draws(4, np.arange(len(some)))), 32)
    assert np.mean([matches(see(d), p.spec) for d, p in zip(drawn, some, strict=True)]) >= 0.99


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Draw me a big RED circle, please", SceneSpec("colors", (ObjectSpec("circle", "red", "large"),))),
        ("a circle that is red and tiny", SceneSpec("colors", (ObjectSpec("circle", "red", "small"),))),
        ("circle, red, gray background", SceneSpec("colors", (CIRCLE,), None, "grey")),
        ("white background, red circle", SceneSpec("colors", (CIRCLE,), None, "white")),
        ("the background is black and the circle is red", SceneSpec("colors", (CIRCLE,), None, "black")),
        ("a red circle is on black", SceneSpec("colors", (CIRCLE,), None, "black")),
        ("a red circle over a white background", SceneSpec("colors", (CIRCLE,), None, "white")),
        ("a circle in red and a square in blue", SceneSpec("color_attr", (CIRCLE, SQUARE))),
        ("the circle is red, the square is blue", SceneSpec("color_attr", (CIRCLE, SQUARE))),
        ("a red circle beside a blue square", SceneSpec("color_attr", (CIRCLE, SQUARE))),
        ("3 little rings", SceneSpec("counting", (ObjectSpec("ring", None, "small"),) * 3)),
        ("a pair of crosses", SceneSpec("counting", (ObjectSpec("cross"),) * 2)),
        ("a red circle on top of a blue square", SceneSpec("position", (CIRCLE, SQUARE), "above")),
        ("a red circle beneath a blue square", SceneSpec("position", (CIRCLE, SQUARE), "below")),
        ("a red circle is on the left of a blue square", SceneSpec("position", (CIRCLE, SQUARE), "left of")),
        ("red circle on the left, blue square on the right", SceneSpec("position", (CIRCLE, SQUARE), "left of")),
        # The second one may be named first.
        ("to the left of the red circle is a blue square", SceneSpec("position", (CIRCLE, SQUARE), "right of")),
        ("a red circle with a blue square below it", SceneSpec("position", (CIRCLE, SQUARE), "above")),
        ("a red circle above a red circle", SceneSpec("counting", (CIRCLE, CIRCLE), "above")),
    ],
)
def test_other_words_and_orders(prompt, expected):
    assert read(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a photo of a dog",
        "a red circle and a dog",  # half of it would be lost
        "a dog and a red circle",
        "two dogs and a circle",
        "a white circle",  # a colour of backgrounds alone
        "the circle is white",
        "a circle on a red background",
        "a circle and the background is red",
        "a red and blue circle",
        "two circles, one red and one blue",
        "a red circle and a blue circle",
        "five circles",
        "5 circles",
        "circles",
        "three circles and a square",
        "a circle left of a square above a ring",
        "no circle",
        "a square without a circle",
        "a circle above",
        # Where it stands is said already.
        "a red circle in the middle",
        "a circle in the center",
        "a circle on the left of the picture",
        "a small red circle at 30% across and 2% down",
        "a black background with a small red circle at the top left",
    ],
)
def test_other_prompts_stay_as_they_are(prompt):
    assert read(prompt) is None
    assert expand([prompt], 0, [0]) == [prompt]


@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_either_size_has_room(size):
    specs = [read(f"{number} {size} {shape}s") for shape in ("square", "diamond", "ring") for number in NUMBERS[1:]]
    drawn = render(scenes_of(specs * 4, Draws(2, np.arange(4 * len(specs)))), 32)
    assert all(matches(see(d), s) for d, s in zip(drawn, specs * 4, strict=True))
