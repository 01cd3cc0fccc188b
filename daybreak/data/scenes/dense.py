"""Dense captions of scenes: they name everything of a picture, and where each object stands.

What a caption does not say cannot be learnt from it (DALL-E 3, PixArt-alpha, arXiv 2310.00426); docs/journal.md has
what it brought here. A short prompt becomes a dense one before it is drawn: expand.py.
"""

from __future__ import annotations

from daybreak.data.scenes.captions import noun
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import Scenes
from daybreak.data.scenes.world import BACKGROUND_NAMES, COLOR_NAMES, SHAPES, SIZES, ObjectSpec

EXACT = ("at {x}% across and {y}% down", "{x}% across, {y}% down", "{x}% from the left and {y}% from the top")
"""Where the middle of an object stands, in per cent of the picture's sides."""
PERCENT_STEP = 2
"""They are rounded to this."""
ROUGH = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
"""The same by thirds of the picture, as people say it."""
P_ROUGH = 0.1
"""How often a caption places its objects by thirds."""

_BEHIND = ("{x}, on a {bg} background", "{x}, on {bg}", "{x}, the background is {bg}")
_BEFORE = "a {bg} background with {x}"

Mentions = list[tuple[int, int, tuple[int, ...]]]
"""Where a caption speaks of objects: (first character, one past the last, the objects' numbers in the scene)."""


def dense_captions(scenes: Scenes, draws: Draws, p_rough: float = P_ROUGH) -> list[tuple[str, Mentions]]:
    """A caption for each scene, [B] of them, that names every object, in the order of reading, and the background."""
    form = draws.uniform("dense wording", 4).tolist()
    return [_caption(scenes, i, f, p_rough) for i, f in enumerate(form)]


def _caption(scenes: Scenes, i: int, form: list[float], p_rough: float) -> tuple[str, Mentions]:
    rough, wording, frame, before = form
    exact = None if rough < p_rough else EXACT[int(wording * len(EXACT))]
    ground = BACKGROUND_NAMES[scenes.background[i]]
    template = _BEFORE if before < 0.5 else _BEHIND[int(frame * len(_BEHIND))]
    start, end = template.format(bg=ground, x="\n").split("\n")
    text = start
    mentions: Mentions = []
    x, y = scenes.x[i].tolist(), scenes.y[i].tolist()
    for k in sorted(range(int(scenes.count[i])), key=lambda k: (_third(y[k]), x[k])):
        described = ObjectSpec(
            SHAPES[scenes.shape[i, k]], COLOR_NAMES[scenes.color[i, k]], SIZES[scenes.size[i, k]]
        )  # fmt: skip
        text += "; " if mentions else ""
        first = len(text)
        text += f"{noun(described)} {place(x[k], y[k], exact)}"
        mentions.append((first, len(text), (k,)))
    return text + end, mentions


def place(x: float, y: float, exact: str | None) -> str:
    """Where (x, y), shares of the side, lies: in one of EXACT, or by thirds."""
    if exact is None:
        return ROUGH[_third(y)][_third(x)]
    return exact.format(x=_percent(x), y=_percent(y))


def _percent(share: float) -> int:
    return PERCENT_STEP * round(100 * share / PERCENT_STEP)


def _third(share: float) -> int:
    return min(2, int(3 * share))
