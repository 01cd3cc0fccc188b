"""Expansion: what a prompt leaves open is chosen by chance, and all of it is written as training captions write it.

A model learns from captions that name everything; people write prompts that name little. As published recipes let a
language model write the long prompt (DALL-E 3), so do rules here, since the world is small.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from daybreak.data.scenes.captions import NUMBERS
from daybreak.data.scenes.dense import ROUGH, dense_captions
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import scenes_of
from daybreak.data.scenes.world import (
    BACKGROUND_NAMES,
    COLOR_NAMES,
    MAX_OBJECTS,
    SHAPES,
    SIZES,
    ObjectSpec,
    SceneSpec,
)

_PLURALS = {shape + ("es" if shape == "cross" else "s"): shape for shape in SHAPES}
_NUMBERS = {word: n + 1 for n, word in enumerate(NUMBERS)} | {str(n): n for n in range(1, MAX_OBJECTS + 1)}
_ALIKE = {"big": "large", "huge": "large", "little": "small", "tiny": "small", "gray": "grey"}
_RELATIONS = (
    (r"\b(to the )?left of\b|\bon the left and\b", "left of"),
    (r"\b(to the )?right of\b|\bon the right and\b", "right of"),
    (r"\babove\b|\bover\b|\bon top of\b|\bat the top and\b", "above"),
    (r"\bbelow\b|\bunder\b|\bbeneath\b|\bat the bottom and\b", "below"),
)
_PLACED = "|".join(re.escape(words) for row in ROUGH for words in row) + r"|\d+ ?% (across|from)"


def expand(prompts: Sequence[str], seed: int, numbers: Sequence[int]) -> list[str]:
    """The dense prompt of each; a prompt that `read` cannot read stays as it is.

    What picture `numbers[i]` leaves open depends on (seed, numbers[i]) alone.
    """
    read_ones = [(i, spec) for i, spec in enumerate(map(read, prompts)) if spec is not None]
    expanded = list(prompts)
    if read_ones:
        draws = Draws(seed, np.array([numbers[i] for i, _ in read_ones]))
        scenes = scenes_of([spec for _, spec in read_ones], draws)
        for (i, _), (caption, _) in zip(read_ones, dense_captions(scenes, draws, p_rough=0.0), strict=True):
            expanded[i] = caption
    return expanded


def read(prompt: str) -> SceneSpec | None:
    """What a short prompt asks for, in whatever order of words; None where it speaks of other things.

    One object, up to four equal ones, or two of them with a relation between. A prompt that already says where its
    objects stand is dense enough, and is None too.
    """
    text = " ".join(prompt.lower().split())
    if re.search(_PLACED, _without_pairs(text)):
        return None
    words = [_ALIKE.get(w, w) for w in re.findall(r"[a-z]+|\d+", text)]
    objects: list[ObjectSpec] = []
    count, color, size = 1, None, None
    for i, word in enumerate(words):
        shape = _PLURALS.get(word, word)
        if shape in SHAPES:
            objects += [ObjectSpec(shape, color, size)] * count
            count, color, size = 1, None, None
        elif word in _NUMBERS:
            count = _NUMBERS[word]
        elif word in SIZES:
            size = word
        elif word in COLOR_NAMES and words[i + 1 : i + 2] != ["background"]:
            color = word
    if not objects or len(objects) > MAX_OBJECTS or (len(objects) > 2 and len(set(objects)) > 1):
        return None
    if len(objects) == 2 and objects[0].shape == objects[1].shape and objects[0] != objects[1]:
        return None  # the world has no two of one shape that differ
    background = next((w for w in words if w in BACKGROUND_NAMES), None)
    if len(set(objects)) == 1:
        task = "counting" if len(objects) > 1 else "colors" if objects[0].color else "single_object"
        return SceneSpec(task, tuple(objects), None, background)
    found = [(m.start(), name) for pattern, name in _RELATIONS if (m := re.search(pattern, text))]
    relation = min(found)[1] if found else None
    task = "position" if relation else "color_attr" if all(o.color for o in objects) else "two_object"
    return SceneSpec(task, tuple(objects), relation, background)


def _without_pairs(text: str) -> str:
    """Leaves out "… on the left and … on the right", which is a relation and no place."""
    for first, second in (("on the left", "on the right"), ("at the top", "at the bottom")):
        for a, b in ((first, second), (second, first)):
            if f"{a} and" in text and b in text:
                text = text.replace(f"{a} and", "and").replace(b, "")
    return text
