"""Means and spreads over seeds, and differences to the baseline."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from daybreak.ablate.plan import Plan
from daybreak.data.scenes.world import TASKS

SHARES = (*TASKS, "one_and_two_objects", "overall", "held_out")
COSTS = ("images_per_second", "peak_memory_bytes", "images", "steps", "parameters", "seconds", "charged_seconds")
MEASURES = (*SHARES, "frechet", "loss", *COSTS)
"""What is averaged over seeds; the keys of measures.json (ablate/one.py)."""
COMPARED = ("overall", "held_out", "frechet", "loss", "images_per_second")
"""Measures whose difference to the baseline is told."""

Measured = dict[tuple[str, int], dict[str, Any] | None]


@dataclass(frozen=True)
class Figure:
    """Over seeds. spread: standard deviation (divided by count - 1); None from one seed."""

    mean: float
    spread: float | None


@dataclass(frozen=True)
class Difference:
    """To the baseline's mean. within_spread: no larger than both spreads together; None where one is unknown."""

    value: float
    within_spread: bool | None


@dataclass(frozen=True)
class Row:
    """A variant: how many of its runs finished, which crashed and why, its figures."""

    recipe: str
    finished: int
    errors: dict[int, str] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)


def rows(plan: Plan, measured: Measured, errors: dict[tuple[str, int], str]) -> list[Row]:
    """One row for each recipe, in the plan's order; the first is the baseline of the differences."""
    result: list[Row] = []
    for recipe in plan.recipes:
        runs = [m for seed in range(plan.seeds) if (m := measured.get((recipe, seed))) is not None]
        own = {seed: error for (name, seed), error in errors.items() if name == recipe}
        values = {key: [float(run[key]) for run in runs if key in run] for key in MEASURES}
        figures = {key: figure(v) for key, v in values.items() if v}
        base = result[0].figures if result else {}
        differences = {k: difference(figures[k], base[k]) for k in COMPARED if k in figures and k in base}
        result.append(Row(recipe, len(runs), own, figures, differences))
    return result


def figure(values: list[float]) -> Figure:
    """Mean and sample standard deviation."""
    return Figure(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def difference(one: Figure, baseline: Figure) -> Difference:
    """one - baseline. Two runs with other seeds differ by root(spread_1² + spread_2²), one standard deviation."""
    value = one.mean - baseline.mean
    if one.spread is None or baseline.spread is None:
        return Difference(value, None)
    return Difference(value, abs(value) <= math.hypot(one.spread, baseline.spread))
