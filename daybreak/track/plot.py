"""Score over time as a picture: a line a seed, the targets as dashes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Sheet

from daybreak.files import write_whole
from daybreak.track import curve
from daybreak.track.rules import Track

Runs = Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
"""The clock and the scored rows of each seed."""
TITLES = {
    "one_and_two_objects": "one- and two-object prompts followed, %",
    "held_out": "held-out compositions followed, %",
    "frechet": "Fréchet distance (less is better)",
}


def plot(track: Track, entries: Sequence[tuple[str, Runs]], path: Path) -> None:
    """Writes a PNG with one panel a measure; entries: by the name that stands beside their lines."""
    measures = list(dict.fromkeys(t.measure for t in track.targets))
    sheet = Sheet(figsize=(6.4 * len(measures), 4.4 + 0.2 * len(entries)), layout="constrained")
    panels = sheet.subplots(1, len(measures), squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        scale = 1 if measure == "frechet" else 100
        for i, (name, runs) in enumerate(entries):
            for k, (clock, rows) in enumerate(runs):
                line = curve.points(rows, measure, clock, track)
                axes.plot(
                    [at for at, _ in line], [scale * v for _, v in line], color=f"C{i % 10}", marker=".", markersize=4,
                    linewidth=1.2, alpha=1 if k == 0 else 0.5, linestyle="-" if i < 10 else "--",
                    label=name if k == 0 else None,
                )  # fmt: skip
        for target in track.targets:
            if target.measure == measure and target.reach is not None:
                axes.axhline(scale * target.reach, color="0.6", linewidth=0.8, linestyle=":")
        axes.set_xlim(0, track.limit)
        axes.set_xlabel("charged, seconds of the reference machine")
        axes.set_title(TITLES[measure], fontsize=10)
        axes.grid(alpha=0.3)
    lines, names = panels[0].get_legend_handles_labels()
    if names:
        told = [textwrap.fill(name, 60 * len(measures)) for name in names]
        sheet.legend(
            lines, told, loc="outside lower center", fontsize=8, ncols=1 if len(max(told, key=len)) > 40 else 3
        )
    drawn = BytesIO()
    sheet.savefig(drawn, dpi=110)
    write_whole(path, drawn.getvalue())
