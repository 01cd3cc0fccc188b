"""ablation.png: score, Fréchet distance, and loss over time."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from daybreak.ablate.plan import run_folder
from daybreak.ablate.table import variants_of
from daybreak.files import write_whole
from daybreak.run_folder import read_events

POINTS = 200
"""Of a loss curve."""
SMOOTHING = 0.03
"""Share of a run over which its loss is averaged for the curve."""


def plot(results: dict[str, Any], folder: Path) -> None:
    """Writes FOLDER/ablation.png: for each variant a dot per seed and mean ± spread, then the losses over time."""
    names = [v.recipe for v in variants_of(results)]
    scored = any("overall" in v.figures for v in variants_of(results))
    height = max(3.2, 0.42 * len(names) + 1.4)
    sheet = Sheet(figsize=(14 if scored else 7, height), layout="constrained")
    axes = sheet.subplots(1, 3 if scored else 1, squeeze=False)[0]
    if scored:
        _variants(axes[0], results, "overall", 100, "overall score, % of prompts followed")
        _variants(axes[1], results, "frechet", 1, "Fréchet distance (less is better)")
        axes[1].set_yticklabels([])
    _losses(axes[-1], results, folder)
    drawn = BytesIO()
    sheet.savefig(drawn, dpi=130)
    write_whole(folder / "ablation.png", drawn.getvalue())


def _variants(axes: Axes, results: dict[str, Any], key: str, scale: float, title: str) -> None:
    variants = variants_of(results)
    for i, row in enumerate(variants):
        runs = [r["measures"][key] for r in results["runs"] if r["recipe"] == row.recipe and r["measures"]]
        axes.plot([scale * v for v in runs], [i] * len(runs), "o", color=f"C{i % 10}", alpha=0.4, markersize=4)
        if (f := row.figures.get(key)) is not None:
            axes.errorbar(scale * f.mean, i, xerr=scale * (f.spread or 0), fmt="D", color=f"C{i % 10}", capsize=4)
    if variants and (base := variants[0].figures.get(key)) is not None:
        axes.axvline(scale * base.mean, color="0.7", linewidth=1, zorder=0)
    axes.set_yticks(range(len(variants)), [v.recipe + (" (crashed)" if not v.finished else "") for v in variants])
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)


def _losses(axes: Axes, results: dict[str, Any], folder: Path) -> None:
    """The velocity term over training time: the mean over seeds, and the band from the least to the largest."""
    for i, row in enumerate(variants_of(results)):
        curves = [
            _curve(run_folder(folder, row.recipe, r["seed"]))
            for r in results["runs"]
            if r["recipe"] == row.recipe and r["measures"]
        ]
        if not curves:
            continue
        end = min(seconds[-1] for seconds, _ in curves)
        begin = max(seconds[0] for seconds, _ in curves)
        at = np.linspace(begin, end, POINTS)
        values = np.stack([np.interp(at, seconds, losses) for seconds, losses in curves])
        axes.plot(at, values.mean(0), color=f"C{i % 10}", linewidth=1.2, label=row.recipe)
        axes.fill_between(at, values.min(0), values.max(0), color=f"C{i % 10}", alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_xlabel("training, s")
    axes.set_title("loss (velocity term, smoothed)", fontsize=10)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def _curve(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(seconds, losses), averaged over the last few steps up to each."""
    steps = [e for e in read_events(run) if e["event"] == "step"]
    losses = np.array([e["terms"]["velocity"] for e in steps])
    window = max(1, round(SMOOTHING * len(losses)))
    sums = np.cumsum(np.insert(losses, 0, 0.0))
    last = np.arange(1, len(losses) + 1)
    first = np.maximum(last - window, 0)
    return np.array([e["seconds"] for e in steps]), (sums[last] - sums[first]) / (last - first)
