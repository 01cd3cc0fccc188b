"""Chooses scenes at random: which objects there are, what they look like, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.shapes import EXTENT
from daybreak.data.scenes.world import (
    BACKGROUND_NAMES,
    BACKGROUNDS,
    COLOR_JITTER,
    COLOR_NAMES,
    COLORS,
    HELD_OUT_COLOR,
    MAX_OBJECTS,
    RADII,
    RADIUS_JITTER,
    RELATIONS,
    SHAPES,
    SIZES,
    TASKS,
    SceneSpec,
    is_held_out_arrangement,
)

MARGIN = 0.03
"""Least distance of an object from the picture's edge."""
GAP = 0.08
"""Least distance between two objects: two and a half pixels at 32 px."""

_HELD_COLOR = np.array([COLOR_NAMES.index(HELD_OUT_COLOR[s]) for s in SHAPES])
_HELD_ARRANGEMENT = np.array(
    [[[a != b and is_held_out_arrangement(a, r, b) for b in SHAPES] for a in SHAPES] for r in ("left of", "above")]
)
_EXTENT = np.array([EXTENT[s] for s in SHAPES])
_RADIUS = np.array([RADII[s] for s in SIZES])
_RGB = np.array([COLORS[c] for c in COLOR_NAMES], dtype=np.float64)
_BACKGROUND_RGB = np.array([BACKGROUNDS[b] for b in BACKGROUND_NAMES], dtype=np.float64)


@dataclass
class Scenes:
    """A batch of scenes, one row each; objects beyond `count` are to be ignored.

    task [B] indexes TASKS; count [B] in 1..4; shape, color, size [B, 4] index SHAPES, COLOR_NAMES, SIZES;
    background [B] indexes BACKGROUND_NAMES; relation [B] indexes RELATIONS (between objects 0 and 1; -1 without);
    x, y, radius [B, 4] are shares of the side; rgb [B, 4, 3] and background_rgb [B, 3] are in 0..255.
    """

    task: np.ndarray
    count: np.ndarray
    shape: np.ndarray
    color: np.ndarray
    size: np.ndarray
    background: np.ndarray
    relation: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    rgb: np.ndarray
    background_rgb: np.ndarray

    def __len__(self) -> int:
        return len(self.count)


def training_scenes(draws: Draws, task_weights: tuple[float, ...]) -> Scenes:
    """Scenes of the training distribution, [B] of them: no held-out pair, no held-out arrangement.

    `task_weights` are the six tasks' shares, in the order of TASKS.
    """
    share = np.cumsum(task_weights) / np.sum(task_weights)
    task = np.minimum(np.searchsorted(share, draws.uniform("task")[:, 0], side="right"), len(TASKS) - 1)
    counting = task == TASKS.index("counting")
    one = (task == TASKS.index("single_object")) | (task == TASKS.index("colors"))
    count = np.where(counting, 1 + draws.integer("count", MAX_OBJECTS)[:, 0], np.where(one, 1, 2))

    shape = draws.integer("shape", len(SHAPES), MAX_OBJECTS)
    others = draws.integer("other shape", len(SHAPES) - 1)[:, 0]
    shape[:, 1] = (shape[:, 0] + 1 + others) % len(SHAPES)  # the two objects of a scene differ in shape
    size = draws.integer("size", len(SIZES), MAX_OBJECTS)
    color_draw = draws.integer("color", len(COLOR_NAMES) - 1, MAX_OBJECTS)
    shape = np.where(counting[:, None], shape[:, :1], shape)
    size = np.where(counting[:, None], size[:, :1], size)
    size = np.where((count > 2)[:, None], 0, size)  # three or four large ones would not fit
    color_draw = np.where(counting[:, None], color_draw[:, :1], color_draw)
    color = color_draw + (color_draw >= _HELD_COLOR[shape])  # skips the shape's held-out colour

    relation = np.where(count == 2, draws.integer("relation", len(RELATIONS))[:, 0], -1)
    relation = _avoid_held_out(relation, shape)
    return _place(draws, task, count, shape, color, size, relation, draws.integer("background", 4)[:, 0])


def scenes_of(specs: list[SceneSpec], draws: Draws, as_trained: bool = False) -> Scenes:
    """One scene for each spec; what a spec leaves open is drawn at random. Length of `specs` = B of `draws`.

    as_trained: what is left open never makes a combination that training holds out.
    """
    n = len(specs)
    shape = np.zeros((n, MAX_OBJECTS), dtype=np.int64)
    color = draws.integer("color", len(COLOR_NAMES), MAX_OBJECTS)
    size = draws.integer("size", len(SIZES), MAX_OBJECTS)
    relation = draws.integer("relation", len(RELATIONS))[:, 0]
    background = draws.integer("background", len(BACKGROUND_NAMES))[:, 0]
    for i, spec in enumerate(specs):
        if len(spec.objects) > 2:
            size[i] = 0
        if spec.task == "counting":
            size[i] = size[i, 0]
            color[i] = color[i, 0]
        for k, o in enumerate(spec.objects):
            shape[i, k] = SHAPES.index(o.shape)
            if as_trained and color[i, k] == _HELD_COLOR[shape[i, k]]:
                color[i, k] = (color[i, k] + 1) % len(COLOR_NAMES)
            color[i, k] = COLOR_NAMES.index(o.color) if o.color else color[i, k]
            size[i, k] = SIZES.index(o.size) if o.size else size[i, k]
        if as_trained:
            relation[i : i + 1] = _avoid_held_out(relation[i : i + 1], shape[i : i + 1])
        relation[i] = RELATIONS.index(spec.relation) if spec.relation else relation[i]
        background[i] = BACKGROUND_NAMES.index(spec.background) if spec.background else background[i]
    task = np.array([TASKS.index(s.task) for s in specs], dtype=np.int64)
    count = np.array([len(s.objects) for s in specs], dtype=np.int64)
    relation = np.where(count == 2, relation, -1)
    return _place(draws, task, count, shape, color, size, relation, background)


def _avoid_held_out(relation: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Turns a held-out arrangement into its reverse, which never is one. relation [B], shape [B, 4]."""
    vertical = relation // 2
    forward = relation % 2 == 0
    first = np.where(forward, shape[:, 0], shape[:, 1])
    second = np.where(forward, shape[:, 1], shape[:, 0])
    held = (relation >= 0) & (shape[:, 0] != shape[:, 1]) & _HELD_ARRANGEMENT[np.maximum(vertical, 0), first, second]
    return np.where(held, relation ^ 1, relation)


def _place(
    draws: Draws,
    task: np.ndarray,
    count: np.ndarray,
    shape: np.ndarray,
    color: np.ndarray,
    size: np.ndarray,
    relation: np.ndarray,
    background: np.ndarray,
) -> Scenes:
    """Gives every object a radius, a place without overlap, and its exact colour. Arguments as in `Scenes`."""
    n = len(count)
    radius = _RADIUS[size] * (1 + RADIUS_JITTER * (2 * draws.uniform("radius", MAX_OBJECTS) - 1))
    # One object stands anywhere that leaves the margin.
    extent = radius * _EXTENT[shape]
    low = MARGIN + extent
    u, v = draws.uniform("x", MAX_OBJECTS), draws.uniform("y", MAX_OBJECTS)
    x, y = low + u * (1 - 2 * low), low + v * (1 - 2 * low)

    # Two objects: along the main axis they leave room for each other; across it they differ by less than half as much.
    two = relation >= 0
    near, far = extent[:, 0], extent[:, 1]
    apart = near + far + GAP
    room = 1 - 2 * MARGIN - near - far - apart  # what is left over along the axis
    share = np.sort(draws.uniform("along", 2), axis=1)
    a = MARGIN + near + share[:, 0] * room
    b = a + apart + (share[:, 1] - share[:, 0]) * room
    reach = 0.5 * (b - a)
    across_a = u[:, 0] * (1 - 2 * low[:, 0]) + low[:, 0]
    offset = np.clip(v[:, 1] * (1 - 2 * low[:, 1]) + low[:, 1], across_a - reach, across_a + reach)
    across_b = np.clip(offset, low[:, 1], 1 - low[:, 1])
    first_is_near = relation % 2 == 0
    # `near` belongs to object 0; where object 1 comes first on the axis, mirror the axis.
    along0, along1 = np.where(first_is_near, a, 1 - a), np.where(first_is_near, b, 1 - b)
    vertical = relation >= 2
    for k, (along, across) in enumerate(((along0, across_a), (along1, across_b))):
        x[:, k] = np.where(two, np.where(vertical, across, along), x[:, k])
        y[:, k] = np.where(two, np.where(vertical, along, across), y[:, k])

    # Three or four: each in a quarter of its own, in a random order.
    many = count > 2
    quarter = np.argsort(draws.uniform("quarter", 4), axis=1)
    slack = np.maximum(0.5 - GAP / 2 - MARGIN - 2 * extent, 0)
    qx = np.where(quarter % 2 == 0, MARGIN + extent + u * slack, 1 - MARGIN - extent - u * slack)
    qy = np.where(quarter // 2 == 0, MARGIN + extent + v * slack, 1 - MARGIN - extent - v * slack)
    x, y = np.where(many[:, None], qx, x), np.where(many[:, None], qy, y)

    jitter = COLOR_JITTER * (2 * draws.uniform("tint", 3 * MAX_OBJECTS).reshape(n, MAX_OBJECTS, 3) - 1)
    ground = COLOR_JITTER * (2 * draws.uniform("background tint", 3) - 1)
    return Scenes(
        task=task,
        count=count,
        shape=shape,
        color=color,
        size=size,
        background=background,
        relation=relation,
        x=x,
        y=y,
        radius=radius,
        rgb=np.clip(_RGB[color] + jitter, 0, 255),
        background_rgb=np.clip(_BACKGROUND_RGB[background] + ground, 0, 255),
    )
