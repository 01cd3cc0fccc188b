"""Renders scenes: background first, then object by object through its coverage."""

from __future__ import annotations

import numpy as np

from daybreak.data.scenes.layout import Scenes
from daybreak.data.scenes.shapes import coverage
from daybreak.data.scenes.world import MAX_OBJECTS, SHAPES


def render(scenes: Scenes, resolution: int) -> np.ndarray:
    """Scenes -> [B, 3, H, W] float32 pictures in [-1, 1], sRGB, H = W = `resolution` (32 to 1024 px)."""
    n = len(scenes)
    picture = np.empty((n, 3, resolution, resolution), dtype=np.float32)
    picture[:] = scenes.background_rgb.astype(np.float32)[:, :, None, None]
    for k in range(MAX_OBJECTS):
        for s, name in enumerate(SHAPES):
            rows = np.flatnonzero((scenes.count > k) & (scenes.shape[:, k] == s))
            if len(rows) == 0:
                continue
            alpha = coverage(name, scenes.x[rows, k], scenes.y[rows, k], scenes.radius[rows, k], resolution)
            rgb = scenes.rgb[rows, k].astype(np.float32)[:, :, None, None]
            picture[rows] += alpha[:, None] * (rgb - picture[rows])
    return picture / 127.5 - 1
