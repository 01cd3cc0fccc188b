"""The geometry of the shapes: signed distance, antialiased coverage, extent."""

from __future__ import annotations

import numpy as np

from daybreak.data.scenes.world import SHAPES

# In units of the radius, chosen so that shapes of one radius look equally large.
_SQUARE, _DIAMOND, _CROSS, _ARM, _HOLE = 0.88, 1.12, 1.05, 0.35, 0.48
_TRIANGLE_UP, _TRIANGLE_DOWN, _TRIANGLE_SIDE = 1.05, 0.8, 1.05

EXTENT = {"circle": 1.0, "square": _SQUARE, "triangle": 1.05, "diamond": _DIAMOND, "cross": _CROSS, "ring": 1.0}
"""How far each shape of radius 1 reaches from its centre along either axis."""


PERIMETER = {
    "circle": 2 * np.pi,
    "square": 8 * _SQUARE,
    "triangle": 2 * (_TRIANGLE_SIDE + float(np.hypot(_TRIANGLE_UP + _TRIANGLE_DOWN, _TRIANGLE_SIDE))),
    "diamond": 4 * np.sqrt(2) * _DIAMOND,
    "cross": 8 * _CROSS,
    "ring": 2 * np.pi * (1 + _HOLE),
}
"""Length of the outline of each shape of radius 1, the ring's inner one included."""


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline of a shape of radius 1 at the origin, negative inside; x, y and result [...].

    Exact near the outline, which is where coverage is decided.
    """
    ax, ay = np.abs(x), np.abs(y)
    if shape == "circle":
        return np.hypot(x, y) - 1
    if shape == "square":
        return np.maximum(ax, ay) - _SQUARE
    if shape == "triangle":
        slope = np.hypot(_TRIANGLE_UP + _TRIANGLE_DOWN, _TRIANGLE_SIDE)
        side = (ax * (_TRIANGLE_UP + _TRIANGLE_DOWN) - (y + _TRIANGLE_UP) * _TRIANGLE_SIDE) / slope
        return np.maximum(side, y - _TRIANGLE_DOWN)
    if shape == "diamond":
        return (ax + ay - _DIAMOND) / np.sqrt(2)
    if shape == "cross":
        return np.minimum(np.maximum(ax - _ARM, ay - _CROSS), np.maximum(ay - _ARM, ax - _CROSS))
    if shape == "ring":
        r = np.hypot(x, y)
        return np.maximum(r - 1, _HOLE - r)
    raise ValueError(f"unknown shape {shape!r}; the shapes are {', '.join(SHAPES)}")


def coverage(
    shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray, resolution: int,
    rows: slice = slice(None), columns: slice = slice(None),
) -> np.ndarray:  # fmt: skip
    """How much of each pixel the shape covers: [B] centres and radii (shares of the side) -> [B, H, W] in [0, 1]; of
    some rows and columns alone where these are given."""
    axis = ((np.arange(resolution, dtype=np.float32) + 0.5) / resolution)[None]
    scale = radius.astype(np.float32)[:, None]
    dx = (axis[:, columns] - x.astype(np.float32)[:, None]) / scale
    dy = (axis[:, rows] - y.astype(np.float32)[:, None]) / scale
    distance = signed_distance(shape, dx[:, None, :], dy[:, :, None])
    # One pixel is 1 / (radius * resolution) in units of the radius.
    return np.clip(0.5 - distance * (scale[:, :, None] * resolution), 0, 1)
