"""What exists in `scenes`: shapes, colours, sizes, backgrounds, relations, and which combinations are held out.

Lengths are shares of the picture's side, x to the right, y downwards. Colours are sRGB in 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")

COLORS = {
    "red": (225, 35, 35),
    "orange": (250, 140, 20),
    "yellow": (250, 230, 40),
    "green": (35, 165, 60),
    "cyan": (60, 220, 235),
    "blue": (40, 75, 230),
    "purple": (145, 40, 190),
    "pink": (255, 150, 205),
}
COLOR_NAMES = tuple(COLORS)

BACKGROUNDS = {"white": (245, 245, 245), "grey": (128, 128, 128), "black": (14, 14, 14), "brown": (100, 64, 36)}
BACKGROUND_NAMES = tuple(BACKGROUNDS)

SIZES = ("small", "large")
RADII = {"small": 0.12, "large": 0.185}
RADIUS_JITTER = 0.04
"""Radii vary by up to this share either way."""
COLOR_JITTER = 6
"""Each channel varies by up to this much either way, out of 255."""

RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

MAX_OBJECTS = 4

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""The six tasks of GenEval (arXiv 2310.11513)."""

HELD_OUT_COLOR = {shape: COLOR_NAMES[(3 * i + 1) % len(COLORS)] for i, shape in enumerate(SHAPES)}
"""One colour of each shape never occurs in training: 6 of the 48 pairs."""


def is_held_out_pair(color: str, shape: str) -> bool:
    """Whether this colour never occurs on this shape in training."""
    return HELD_OUT_COLOR[shape] == color


def is_held_out_arrangement(a: str, relation: str, b: str) -> bool:
    """Whether "a `relation` b" never occurs in training, in either wording: 12 of the 60 arrangements.

    Held out are: each shape left of the next one in `SHAPES`, and each shape above the one after the next. The
    reverse arrangement is always a training one, so a model that ignores the order fails on every such prompt.
    """
    if relation in ("right of", "below"):
        a, b, relation = b, a, INVERSE[relation]
    step = 1 if relation == "left of" else 2
    return (SHAPES.index(b) - SHAPES.index(a)) % len(SHAPES) == step


@dataclass(frozen=True)
class ObjectSpec:
    """What a prompt says of one object; None where it says nothing."""

    shape: str
    color: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class SceneSpec:
    """What a prompt says of a picture: the judge's ground truth.

    Every object of the picture is listed: "three circles" has three equal entries. `relation` holds between the first
    object and the second. `background` is None where the prompt does not name it.
    """

    task: str
    objects: tuple[ObjectSpec, ...]
    relation: str | None = None
    background: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether the prompt asks for a combination that training never shows."""
        pairs = any(o.color is not None and is_held_out_pair(o.color, o.shape) for o in self.objects)
        if self.relation is None:
            return pairs
        first, second = self.objects
        return pairs or is_held_out_arrangement(first.shape, self.relation, second.shape)
