"""Expansion: what a prompt leaves open is chosen by chance, and all of it is written as training captions write it.

A model learns from captions that name everything; people write prompts that name little. As published recipes let a
language model write the long prompt (DALL-E 3), so do rules here, since the world is small.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from daybreak.data.scenes.captions import NUMBERS, plural
from daybreak.data.scenes.dense import dense_captions
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import scenes_of
from daybreak.data.scenes.world import (
    BACKGROUND_NAMES,
    COLOR_NAMES,
    INVERSE,
    MAX_OBJECTS,
    RELATIONS,
    SHAPES,
    SIZES,
    ObjectSpec,
    SceneSpec,
)

_PLURALS = {plural(shape): shape for shape in SHAPES}
_NUMBERS = {word: n + 1 for n, word in enumerate(NUMBERS)} | {str(n): n for n in range(1, MAX_OBJECTS + 1)}
_ALIKE = {"big": "large", "huge": "large", "little": "small", "tiny": "small", "gray": "grey"}
_REWORDED = (
    (rf"\b(over|above|on top of)( an?| the)?( plain)? (gray|{'|'.join(BACKGROUND_NAMES)})\b", r"on \4"),
    (r"\ba (couple|pair) of\b", "two"),
    (r"(?<=[a-z] )on the left(?: and|,)(.*)\bon the right\b", r" LEFT \1"),
    (r"(?<=[a-z] )on the right(?: and|,)(.*)\bon the left\b", r" RIGHT \1"),
    (r"(?<=[a-z] )at the top(?: and|,)(.*)\bat the bottom\b", r" ABOVE \1"),
    (r"(?<=[a-z] )at the bottom(?: and|,)(.*)\bat the top\b", r" BELOW \1"),
    (r"\b((to|on) the )?left of\b(?! the (picture|image))", " LEFT "),
    (r"\b((to|on) the )?right of\b(?! the (picture|image))", " RIGHT "),
    (r"\b(above|over|on top of)\b", " ABOVE "),
    (r"\b(below|under|underneath|beneath)\b", " BELOW "),
)
"""What is said in several words, in one; relations in capitals, which no prompt has by then."""
_RELATIONS = dict(zip(("LEFT", "RIGHT", "ABOVE", "BELOW"), RELATIONS, strict=True))
_MEDIA = {"picture", "image", "drawing", "photo", "painting", "illustration", "scene", "background", "canvas"}
_BEYOND = {"left", "right", "top", "bottom", "middle", "center", "centre", "corner", "edge", "across", "no", "not",
           "without"}  # fmt: skip
"""Of a prompt with one of these words more is said than a `SceneSpec` holds: where in the picture, or what is not."""


def expand(prompts: Sequence[str], seed: int, numbers: Sequence[int]) -> list[str]:
    """The dense prompt of each; a prompt that `read` cannot read stays as it is.

    What picture `numbers[i]` leaves open depends on (seed, numbers[i]) alone, and is chosen among what training shows:
    what the model has never seen was not asked for.
    """
    read_ones = [(i, spec) for i, spec in enumerate(map(read, prompts)) if spec is not None]
    expanded = list(prompts)
    if read_ones:
        draws = Draws(seed, np.array([numbers[i] for i, _ in read_ones]))
        scenes = scenes_of([spec for _, spec in read_ones], draws, as_trained=True)
        for (i, _), (caption, _) in zip(read_ones, dense_captions(scenes, draws, p_rough=0.0), strict=True):
            expanded[i] = caption
    return expanded


def read(prompt: str) -> SceneSpec | None:
    """What a short prompt asks for, in whatever order of words; None where it is not all of this world.

    One object, up to four equal ones, or two of them with a relation between. A prompt that already says where its
    objects stand is dense enough, and is None too.
    """
    text = " ".join(prompt.lower().split())
    for pattern, words in _REWORDED:
        text = re.sub(pattern, words, text)
    found = _parse([_ALIKE.get(w, w) for w in re.findall(r"[a-z]+|[A-Z]+|\d+", text)])
    if found is None:
        return None
    groups, relation, background = found
    objects = [ObjectSpec(g.shape, **g.said) for g in groups for _ in range(g.count)]
    if not objects or len(objects) > MAX_OBJECTS or (len(objects) > 2 and len(set(objects)) > 1):
        return None
    if len(objects) == 2 and objects[0].shape == objects[1].shape and objects[0] != objects[1]:
        return None  # the world has no two of one shape that differ
    if relation is not None and len(objects) != 2:
        return None
    if len(set(objects)) == 1:
        task = "counting" if len(objects) > 1 else "colors" if objects[0].color else "single_object"
    else:
        task = "position" if relation else "color_attr" if all(o.color for o in objects) else "two_object"
    return SceneSpec(task, tuple(objects), relation, background)


@dataclass
class _Group:
    """Equal objects, and what is said of them: `color`, `size`."""

    shape: str
    count: int
    said: dict[str, str] = field(default_factory=dict)


def _parse(words: list[str]) -> tuple[list[_Group], str | None, str | None] | None:
    """Objects, the relation of the first to the second, and the background; None where words make no sense here."""
    groups: list[_Group] = []
    ahead: dict[str, str] = {}  # what was said of the object that is to come
    relation: str | None = None
    background: str | None = None
    count: int | None = None
    opened = False  # "a" or a number was read, and not yet what of
    behind = False  # what is said now is said of the object before, as in "the circle is red"
    for i, word in enumerate(words):
        shape = _PLURALS.get(word, word)
        before, after = words[max(0, i - 2) : i], words[i + 1 : i + 2]
        if shape in SHAPES:
            if word in _PLURALS and count is None:
                return None  # how many?
            groups.append(_Group(shape, count or 1, ahead))
            ahead, count, opened, behind = {}, None, False, False
        elif word in ("a", "an", "the") or word in _NUMBERS:
            if opened:
                return None  # something that is not of this world
            count, behind = _NUMBERS.get(word, None if word == "the" else 1), False
            opened = word != "the"
        elif word in _RELATIONS:
            if relation is not None:
                return None
            # "a above b" is the usual order; "above b is a" and "b with a above it" name the second one first.
            relation = _RELATIONS[word] if len(groups) == 1 else INVERSE[_RELATIONS[word]]
            behind = False
        elif word in SIZES or word in COLOR_NAMES:
            kind, of = "size" if word in SIZES else "color", groups[-1].said if behind else ahead
            if kind in of or after == ["background"] or before == ["background", "is"]:
                return None  # two colours of one object, or a background that the world has not
            of[kind] = word
        elif word in BACKGROUND_NAMES:
            of_an_object = behind and "background" not in before
            if of_an_object or background not in (None, word) or {*after} & {*SHAPES, *_PLURALS, *SIZES, *COLOR_NAMES}:
                return None  # objects have other colours
            background, opened = word, False
        elif word in _BEYOND or word.isdigit():
            return None
        elif word in ("is", "are", "in"):
            behind = bool(groups)
        elif word in _MEDIA:
            opened = behind = False
        elif word not in ("and", "very"):
            behind = False
    if len(groups) == 1 and not ahead.keys() & groups[0].said.keys():
        groups[0].said |= ahead  # "circle, large, red"
    elif ahead:
        return None
    return None if opened else (groups, relation, background)
