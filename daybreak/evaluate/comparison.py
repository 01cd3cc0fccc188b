"""comparison.html: several models in one page, figure by figure and side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybreak.evaluate.measures import METRICS, Measure, measures_of
from daybreak.evaluate.report_evaluation import shown_interval, shown_value
from daybreak.html.chart import Chart, chart, smooth
from daybreak.html.page import write_page
from daybreak.run_folder import read_events


@dataclass(frozen=True)
class Compared:
    """One of the models: its name, its folder with the report's files, what its score.json holds."""

    name: str
    folder: Path
    score: dict[str, Any]


def write_comparison(compared: list[Compared], out: Path) -> Path:
    """Writes OUT/comparison.html. Returns its path."""
    measures = [{m.name: m for m in measures_of(c.score)} for c in compared]
    metrics = [n for n in METRICS if any(n in m for m in measures)]
    return write_page(
        out / "comparison.html",
        "comparison.html",
        title=" against ".join(c.name for c in compared),
        about="as daybreak evaluate measured them",
        names=[c.name for c in compared],
        rows=[(METRICS[n], _cells(n, [m.get(n) for m in measures])) for n in metrics],
        unlike=_unlike(compared, measures, metrics),
        charts=_charts(compared),
        tasks=[(METRICS[n].title, shares) for n in metrics if (shares := _tasks(n, compared, measures))],
        pictures=[(c.name, path) for c in compared if (path := _pictures(c.folder)) is not None],
    )


def _cells(name: str, measures: list[Measure | None]) -> list[dict[str, Any]]:
    """What a metric says of each model; `best` where it is the best of several."""
    values = [m.value for m in measures if m is not None]
    best = min(values) if METRICS[name].better == "lower" else max(values)
    return [
        {"value": "–", "interval": "", "best": False}
        if m is None
        else {
            "value": shown_value(name, m.value),
            "interval": shown_interval(m),
            "best": m.value == best and len(values) > 1,
        }
        for m in measures
    ]


def _tasks(
    name: str, compared: list[Compared], measures: list[dict[str, Measure]]
) -> list[tuple[str, list[tuple[str, float]]]]:
    """The shares of a metric's tasks, in one order for all models that have them."""
    tasks = list(dict.fromkeys(t for m in measures if name in m for t in m[name].parts))
    return [
        (c.name, [(t, m[name].parts[t]) for t in tasks if t in m[name].parts])
        for c, m in zip(compared, measures, strict=True)
        if tasks and name in m
    ]


def _pictures(folder: Path) -> Path | None:
    return next((p for p in (folder / "pictures.png", folder / "grid.png") if p.is_file()), None)


def _unlike(compared: list[Compared], measures: list[dict[str, Measure]], names: list[str]) -> list[str]:
    """Where figures stand side by side that were not measured alike."""
    found = []
    for name in names:
        conditions = {(m[name].pictures, m[name].reference) for m in measures if name in m}
        if len(conditions) > 1:
            counts = ", ".join(f"{m[name].pictures:,}" for m in measures if name in m)
            found.append(f"{METRICS[name].title} is over different numbers of pictures ({counts})")
    references = {str(c.score["about"]["reference"]) for c in compared if "reference" in c.score.get("about", {})}
    if len(references) > 1:
        found.append(f"the references differ: {'; '.join(sorted(references))}")
    return found


def _charts(compared: list[Compared]) -> list[Chart]:
    """Loss, and prompts followed, over training time, of those that have a log."""
    loss, followed = [], []
    for c in compared:
        events = read_events(c.folder)
        steps = [e for e in events if e["event"] == "step"]
        samples = [e for e in events if e["event"] == "samples" and e.get("followed") is not None]
        if steps:
            loss.append((c.name, [s["seconds"] / 60 for s in steps], smooth([s["loss"] for s in steps])))
        if samples:
            followed.append((c.name, [s["seconds"] / 60 for s in samples], [s["followed"] for s in samples]))
    return [chart(t, curves) for t, curves in (("loss (smoothed)", loss), ("prompts followed", followed)) if curves]
