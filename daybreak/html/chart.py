"""Line charts for reports: curves as SVG paths. templates/parts.html has the axes and the sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_POINTS = 300
"""Of a curve."""


@dataclass(frozen=True)
class Chart:
    """Curves, as (name, path), in a box that x crosses from 0 to `end` and y from `low` to `high`."""

    title: str
    unit: str
    end: float
    low: float
    high: float
    curves: list[tuple[str, str]]


def chart(title: str, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]], unit: str = "min") -> Chart:
    """A chart of (name, x, y); `unit` is that of x. A path is in [0, 1] both ways, and y points down as in SVG."""
    everything = [v for _, _, y in curves for v in y]
    low, high = min(0.0, *everything), max(everything)
    high = high if high > low else low + 1
    end = max(v for _, x, _ in curves for v in x) or 1
    paths = []
    for name, x, y in curves:
        stride = max(1, len(x) // MOST_POINTS)
        points = zip(x[::stride], y[::stride], strict=True)
        paths.append((name, "M" + " L".join(f"{a / end:.4f},{1 - (b - low) / (high - low):.4f}" for a, b in points)))
    return Chart(title, unit, end, low, high, paths)


def smooth(values: Sequence[float], keep: float = 0.98) -> list[float]:
    """Exponential moving average, started at the mean of the first few; values that are not finite are passed over."""
    finite = [v for v in values if math.isfinite(v)]
    average = sum(finite[:20]) / max(1, len(finite[:20]))
    result = []
    for v in values:
        if math.isfinite(v):
            average = keep * average + (1 - keep) * v
        result.append(average)
    return result
