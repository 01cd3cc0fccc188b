"""Decides from pixels alone whether a picture of `scenes` satisfies its prompt.

Background first, then the connected things that stand out from it; each is measured (colour, outline, size, place)
against rendered templates. A thing that fits no template is no object, and a picture with such a thing satisfies no
prompt: blurs and half-shapes count as failures.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from daybreak.data.scenes.shapes import EXTENT, PERIMETER, coverage
from daybreak.data.scenes.world import (
    BACKGROUND_NAMES,
    BACKGROUNDS,
    COLOR_NAMES,
    COLORS,
    RADII,
    SHAPES,
    ObjectSpec,
    SceneSpec,
)

LEAST_PX = 32
"""Larger pictures are averaged down by the largest whole factor that leaves at least this side, then judged."""
CONTRAST = 0.16
"""Distance from the background, in RGB of [0, 1], from which a pixel belongs to a thing."""
SPECK_PX = 3
"""Things of fewer pixels are noise."""
MISFIT = 0.012
"""Largest misfit of an object: |its coverage - the template's|, summed, over the length of the template's outline.

That is how far its outline lies from the template's, on average, as a share of the picture's side: 0.38 px at 32 px,
the same for every shape and size. (Over the template's area, rings were held to a stricter line than circles.)"""
COLOR_TOLERANCE = 0.3
"""Largest distance of an object's or the background's colour from a named one, in RGB of [0, 1]."""

_SIZE_SPLIT = float(np.sqrt(RADII["small"] * RADII["large"]))
_BLUR = ndimage.gaussian_filter1d(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), 0.6)
"""The templates are compared sharp, and as a light blur leaves them: of 0.6 px, this along either axis."""
_BLUR_REACH_PX = 3.5
"""How far beyond a template's outline its blur reaches, and up to a pixel of antialiasing."""
_TEMPLATE_RADII = np.linspace(0.8 * RADII["small"], 1.2 * RADII["large"], 14)
_RGB = np.array([COLORS[c] for c in COLOR_NAMES]) / 255
_BACKGROUND_RGB = np.array([BACKGROUNDS[b] for b in BACKGROUND_NAMES]) / 255


@dataclass(frozen=True)
class SeenObject:
    """One thing in a picture. shape, color and size are None where it fits none; x and y are shares of the side."""

    shape: str | None
    color: str | None
    size: str | None
    x: float
    y: float


@dataclass(frozen=True)
class SeenScene:
    """What the judge reads from a picture; background is None where it is none of the named ones."""

    objects: tuple[SeenObject, ...]
    background: str | None


def see(picture: np.ndarray) -> SeenScene:
    """Reads a picture [3, H, W] in [-1, 1]; H = W, at least 32 (ValueError otherwise)."""
    image = _shrink(np.clip(np.asarray(picture, dtype=np.float64), -1, 1)) / 2 + 0.5  # [3, S, S] in [0, 1]
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    ground = np.median(border, axis=1)
    difference = image - ground[:, None, None]
    distance = np.sqrt((difference**2).sum(axis=0))
    labels, _ = ndimage.label(distance > CONTRAST, structure=np.ones((3, 3)))
    objects = []
    for region in range(1, labels.max() + 1):
        inside = labels == region
        if inside.sum() >= SPECK_PX:
            objects.append(_measure(image, ground, difference, distance, inside))
    return SeenScene(tuple(objects), _nearest(ground, _BACKGROUND_RGB, BACKGROUND_NAMES))


def matches(seen: SeenScene, spec: SceneSpec) -> bool:
    """Whether what was seen is what `spec` says: those objects, no others, placed as it says."""
    if len(seen.objects) != len(spec.objects):
        return False
    if spec.background is not None and seen.background != spec.background:
        return False
    return any(
        all(_is(o, s) for o, s in zip(order, spec.objects, strict=True)) and _stands(order, spec.relation)
        for order in itertools.permutations(seen.objects)
    )


ATTRIBUTES = ("number", "background", "outline", "shape", "color", "size", "position")
"""What `attributes` tells apart."""


def attributes(seen: SeenScene, spec: SceneSpec) -> dict[str, bool]:
    """Which of ATTRIBUTES are as `spec` says; only those that it names.

    outline: every object is cleanly one of the shapes; shape: the right one. Those of objects are told where their
    number is right, for the assignment of what was seen to what was asked that fits best.
    """
    found = {"number": len(seen.objects) == len(spec.objects)}
    if spec.background is not None:
        found["background"] = seen.background == spec.background
    if not found["number"]:
        return found
    return found | _of_objects(_best_order(seen, spec), spec)


def share_right(seen: SeenScene, spec: SceneSpec) -> float:
    """The share of what `spec` names of ATTRIBUTES that is right, in [0, 1].

    Where the number of objects is wrong nothing of them is told, and nothing of them counts as right.
    """
    said = {
        "background": spec.background is not None,
        "color": any(o.color is not None for o in spec.objects),
        "size": any(o.size is not None for o in spec.objects),
        "position": spec.relation is not None,
    }
    return sum(attributes(seen, spec).values()) / sum(said.get(name, True) for name in ATTRIBUTES)


@dataclass(frozen=True)
class Told:
    """Of one of ATTRIBUTES: whether it is right, and where it is not, what was seen in its place, in words."""

    name: str
    right: bool
    saw: str = ""


def tell(seen: SeenScene, spec: SceneSpec) -> list[Told]:
    """`attributes` for a reader: "shape: saw a circle"."""
    right = attributes(seen, spec)
    order = _best_order(seen, spec) if right["number"] else ()
    return [Told(name, ok, "" if ok else _saw(name, seen, order, spec)) for name, ok in right.items()]


def _saw(name: str, seen: SeenScene, order: tuple[SeenObject, ...], spec: SceneSpec) -> str:
    pairs = list(zip(order, spec.objects, strict=False))
    if name == "number":
        return str(len(seen.objects) or "none")
    if name == "background":
        return seen.background or "none of the known"
    if name == "outline":
        return "no clean shape"
    if name == "position":
        dx, dy = order[1].x - order[0].x, order[1].y - order[0].y
        across, down = ("left of" if dx > 0 else "right of"), ("above" if dy > 0 else "below")
        return f"the first {across if abs(dx) > abs(dy) else down} the second"
    wrong = [getattr(o, name) for o, s in pairs if getattr(s, name) not in (None, getattr(o, name))]
    article = "a " if name == "shape" else ""
    return ", ".join(dict.fromkeys(f"{article}{is_}" if is_ else "none of the known" for is_ in wrong))


def _best_order(seen: SeenScene, spec: SceneSpec) -> tuple[SeenObject, ...]:
    """The objects seen, as many as asked for, in the order that fits those asked for best."""

    def fits(order: tuple[SeenObject, ...]) -> tuple[bool, int]:
        of = _of_objects(order, spec)
        return of["shape"], sum(of.values())  # shapes tell the objects apart

    return max(itertools.permutations(seen.objects), key=fits)


def _of_objects(order: tuple[SeenObject, ...], spec: SceneSpec) -> dict[str, bool]:
    pairs = list(zip(order, spec.objects, strict=True))
    found = {"outline": all(o.shape is not None for o in order), "shape": all(o.shape == s.shape for o, s in pairs)}
    for name in ("color", "size"):
        named = [(getattr(o, name), getattr(s, name)) for o, s in pairs if getattr(s, name) is not None]
        if named:
            found[name] = all(is_ == wanted for is_, wanted in named)
    if spec.relation is not None:
        found["position"] = _stands(order, spec.relation)
    return found


def _is(seen: SeenObject, spec: ObjectSpec) -> bool:
    fits = seen.shape is not None and seen.color is not None and seen.size is not None
    return fits and seen.shape == spec.shape and spec.color in (None, seen.color) and spec.size in (None, seen.size)


def _stands(objects: tuple[SeenObject, ...], relation: str | None) -> bool:
    """GenEval's margin of 0.1, and the relation's axis must be the one along which the two are farther apart."""
    if relation is None:
        return True
    dx, dy = objects[1].x - objects[0].x, objects[1].y - objects[0].y
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    if relation in ("right of", "below"):
        along = -along
    return along > 0.1 and along > abs(across)


def _measure(
    image: np.ndarray,
    ground: np.ndarray,
    difference: np.ndarray,
    distance: np.ndarray,
    inside: np.ndarray,
) -> SeenObject:
    """One thing: its colour from its most distinct pixels, its outline by the best of the templates."""
    solid = inside & (distance >= 0.8 * np.quantile(distance[inside], 0.9))
    rgb = np.median(image[:, solid], axis=1)
    toward = rgb - ground
    near = ndimage.binary_dilation(inside, structure=np.ones((3, 3)))
    alpha = np.where(near, np.clip((difference * toward[:, None, None]).sum(axis=0) / (toward @ toward), 0, 1), 0)
    mass = alpha.sum()
    axis = (np.arange(len(alpha)) + 0.5) / len(alpha)
    x, y = (alpha.sum(axis=0) @ axis) / mass, (alpha.sum(axis=1) @ axis) / mass
    color = _nearest(rgb, _RGB, COLOR_NAMES)
    shape, radius, misfit = _best_template(alpha, x, y)
    size = None
    if 0.8 * RADII["small"] < radius < 1.2 * RADII["large"]:
        size = "small" if radius < _SIZE_SPLIT else "large"
    return SeenObject(shape if misfit <= MISFIT else None, color, size, float(x), float(y))


def _best_template(alpha: np.ndarray, x: float, y: float) -> tuple[str, float, float]:
    """(shape, radius, misfit) of the template nearest to `alpha` [S, S], laid on its centroid (x, y)."""
    best = ("", 0.0, np.inf)
    r, count, side = _TEMPLATE_RADII, len(_TEMPLATE_RADII), len(alpha)
    for shape in SHAPES:
        cx, cy = _centroid(shape)
        x0, y0, reach = x - cx * r, y - cy * r, EXTENT[shape] * r + _BLUR_REACH_PX / side
        rows, columns = _pixels(y0 - reach, y0 + reach, side), _pixels(x0 - reach, x0 + reach, side)
        sharp = coverage(shape, x0, y0, r, side, rows, columns)
        blurred = ndimage.correlate1d(sharp, _BLUR, axis=1, mode="constant")
        blurred = ndimage.correlate1d(blurred, _BLUR, axis=2, mode="constant")
        blurred /= blurred.max(axis=(1, 2), keepdims=True)  # as the colour is taken from the fullest pixels
        outline = PERIMETER[shape] * r * side**2  # x the side, so that the misfit is a share of it
        apart = np.tile(alpha, (count, 1, 1))  # from all templates, where these are not
        for template in (sharp, blurred):
            apart[:, rows, columns] = np.abs(template - alpha[rows, columns])
            error = apart.sum(axis=(1, 2)) / outline  # [R]
            k = int(error.argmin())
            if error[k] < best[2]:
                best = (shape, float(r[k]), float(error[k]))
    return best


def _pixels(begin: np.ndarray, end: np.ndarray, side: int) -> slice:
    """Those of an axis that lie in any of the intervals, given in shares of the side."""
    return slice(max(0, int(begin.min() * side)), min(side, int(end.max() * side) + 1))


@lru_cache(maxsize=len(SHAPES))
def _centroid(shape: str) -> tuple[float, float]:
    """Where the centre of mass of a shape of radius 1 lies from its centre."""
    n, radius = 512, np.array([0.25])
    mask = coverage(shape, np.array([0.5]), np.array([0.5]), radius, n)[0]
    axis = ((np.arange(n) + 0.5) / n - 0.5) / radius[0]
    return float(mask.sum(axis=0) @ axis / mask.sum()), float(mask.sum(axis=1) @ axis / mask.sum())


def _nearest(rgb: np.ndarray, palette: np.ndarray, names: tuple[str, ...]) -> str | None:
    d = np.sqrt(((palette - rgb) ** 2).sum(axis=1))
    return names[int(d.argmin())] if d.min() <= COLOR_TOLERANCE else None


def _shrink(picture: np.ndarray) -> np.ndarray:
    """[3, H, W] -> [3, S, S] by averaging, with S at least 32."""
    _, h, w = picture.shape
    if h != w or h < LEAST_PX:
        raise ValueError(f"the judge reads square pictures of at least {LEAST_PX} px, not {w}x{h}")
    f = max(k for k in range(1, h // LEAST_PX + 1) if h % k == 0)
    return picture.reshape(3, h // f, f, w // f, f).mean(axis=(2, 4))
