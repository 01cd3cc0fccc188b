"""Captions for scenes: what is said of a picture, and how; and the prompts of the evaluation."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import Scenes
from daybreak.data.scenes.world import (
    BACKGROUND_NAMES,
    COLOR_NAMES,
    INVERSE,
    RELATIONS,
    SHAPES,
    SIZES,
    TASKS,
    ObjectSpec,
    SceneSpec,
)

NUMBERS = ("one", "two", "three", "four")

# {x} is the description of the objects, {bg} the background's name; {be} is "is", or "are" before a number.
_BARE = ("{x}", "{x}", "a picture of {x}", "an image with {x}", "there {be} {x}", "this simple drawing shows {x}")
_ON_BACKGROUND = (
    "{x} on a {bg} background",
    "{x} on {bg}",
    "a picture of {x} on a {bg} background",
    "a plain {bg} background with {x} on it",
    "this simple drawing shows {x} and the background is {bg}",
)
_PAIR = ("{a} and {b}", "{a} and {b}", "{a} next to {b}", "{a} together with {b}")
_RELATION = {
    "left of": ("{a} left of {b}", "{a} to the left of {b}", "{a} on the left and {b} on the right"),
    "right of": ("{a} right of {b}", "{a} to the right of {b}", "{a} on the right and {b} on the left"),
    "above": ("{a} above {b}", "{a} over {b}", "{a} at the top and {b} at the bottom"),
    "below": ("{a} below {b}", "{a} under {b}", "{a} at the bottom and {b} at the top"),
}

P_SIZE, P_BACKGROUND = 0.5, 0.5
"""How often a caption names the objects' sizes, and the background."""


def specs_of(scenes: Scenes, draws: Draws) -> list[SceneSpec]:
    """What each caption will say of its scene, [B] of them: the task decides what must be named, chance the rest."""
    with_size, with_background, say_color, swap = (
        (draws.uniform(name)[:, 0] < share).tolist()
        for name, share in (("say size", P_SIZE), ("say background", P_BACKGROUND), ("say colour", 0.5), ("swap", 0.5))
    )
    # As lists, which are quicker to go through than arrays.
    columns = (scenes.task, scenes.count, scenes.relation, scenes.background, scenes.shape, scenes.color, scenes.size)
    specs = []
    for i, (kind, count, placed, ground, shapes, colors, sizes) in enumerate(
        zip(*(c.tolist() for c in columns), strict=True)
    ):
        task = TASKS[kind]
        named = task in ("colors", "color_attr") or (task in ("counting", "position") and say_color[i])
        objects = [
            _object(SHAPES[shape], COLOR_NAMES[color] if named else None, SIZES[size] if with_size[i] else None)
            for shape, color, size in zip(shapes[:count], colors, sizes, strict=False)
        ]
        relation = RELATIONS[placed] if task == "position" else None
        if len(objects) == 2 and swap[i]:
            objects.reverse()
            relation = INVERSE[relation] if relation else None
        background = BACKGROUND_NAMES[ground] if with_background[i] else None
        specs.append(SceneSpec(task, tuple(objects), relation, background))
    return specs


_object = functools.cache(ObjectSpec)
"""One object for each description: there are few, and they never change."""


def words_of(spec: SceneSpec, form: Sequence[float]) -> str:
    """A sentence that says exactly what `spec` holds. The two numbers of `form`, in [0, 1), pick among the wordings."""
    several = spec.task == "counting" and len(spec.objects) > 1
    if spec.task == "counting":
        one = spec.objects[0]
        shape = plural(one.shape) if several else one.shape
        objects = " ".join(w for w in (NUMBERS[len(spec.objects) - 1], one.size, one.color, shape) if w)
    elif len(spec.objects) == 1:
        objects = noun(spec.objects[0])
    else:
        forms = _RELATION[spec.relation] if spec.relation else _PAIR
        objects = _pick(forms, form[0]).format(a=noun(spec.objects[0]), b=noun(spec.objects[1]))
    if spec.background is None:
        return _pick(_BARE, form[1]).format(x=objects, be="are" if several else "is")
    return _pick(_ON_BACKGROUND, form[1]).format(x=objects, bg=spec.background)


def captions_of(specs: list[SceneSpec], draws: Draws) -> list[str]:
    """One caption for each spec, worded by chance."""
    form = draws.uniform("wording", 2).tolist()
    return [words_of(spec, f) for spec, f in zip(specs, form, strict=True)]


def phrases_of(spec: SceneSpec, caption: str) -> list[tuple[int, int, tuple[int, ...]]]:
    """Where a caption of `words_of` names objects: (first character, one past the last, which of `spec.objects`)."""
    if spec.task == "counting":
        number = NUMBERS[len(spec.objects) - 1]
        shape = spec.objects[0].shape if len(spec.objects) == 1 else plural(spec.objects[0].shape)
        end = caption.index(shape) + len(shape)
        return [(caption.rindex(number, 0, end), end, tuple(range(len(spec.objects))))]
    found: list[tuple[int, int, tuple[int, ...]]] = []
    at = 0
    for i, described in enumerate(spec.objects):
        words = noun(described)
        start = caption.index(words, at)
        at = start + len(words)
        found.append((start, at, (i,)))
    return found


def plural(shape: str) -> str:
    """The word for several of a shape."""
    return shape + ("es" if shape == "cross" else "s")


def noun(o: ObjectSpec) -> str:
    """An object in words, such as "a small red circle": as much of it as the description holds."""
    words = " ".join(w for w in (o.size, o.color, o.shape) if w)
    return ("an " if words[0] in "aeiou" else "a ") + words


def _pick(options: tuple[str, ...], u: float) -> str:
    return options[int(u * len(options))]
