"""comparison.html: several models in one page, figure by figure and side by side."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybreak.evaluate import html_parts as parts_of
from daybreak.evaluate.html_parts import chart, image, smooth
from daybreak.evaluate.measures import METRICS, Measure, measures_of
from daybreak.evaluate.report import read_events
from daybreak.evaluate.report_evaluation import shown_value


@dataclass(frozen=True)
class Compared:
    """One of the models: its name, its folder with the report's files, what its score.json holds."""

    name: str
    folder: Path
    score: dict[str, Any]


def write_comparison(compared: list[Compared], out: Path) -> Path:
    """Writes OUT/comparison.html. Returns its path."""
    title = " against ".join(c.name for c in compared)
    measures = [{m.name: m for m in measures_of(c.score)} for c in compared]
    names = [n for n in METRICS if any(n in m for m in measures)]
    parts = [f"<h1>{html.escape(title)}</h1>", _table(compared, measures, names)]
    parts.append(parts_of.warnings(_unlike(compared, measures, names)))
    parts += _curves(compared)
    for name in names:
        tasks = list(dict.fromkeys(t for m in measures if name in m for t in m[name].parts))
        if tasks:
            parts += [f"<h2>{html.escape(METRICS[name].title)}, by task</h2>", "<div class=charts>"]
            for c, m in zip(compared, measures, strict=True):
                if name in m:
                    rows = [(t, m[name].parts[t]) for t in tasks if t in m[name].parts]
                    parts.append(f"<div><h3>{html.escape(c.name)}</h3>{parts_of.bars(rows)}</div>")
            parts.append("</div>")
    parts.append("<h2>What they draw</h2>")
    for c in compared:
        shown = next((p for p in (c.folder / "pictures.png", c.folder / "grid.png") if p.is_file()), None)
        if shown is not None:
            parts += [f"<h3>{html.escape(c.name)}</h3>", image(shown)]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "comparison.html"
    path.write_text(parts_of.page(title, parts), encoding="utf-8")
    return path


def _table(compared: list[Compared], measures: list[dict[str, Measure]], names: list[str]) -> str:
    rows = ["<tr><th>metric<th>better" + "".join(f"<th>{html.escape(c.name)}" for c in compared) + "</tr>"]
    for name in names:
        metric = METRICS[name]
        values = [m[name].value for m in measures if name in m]
        best = min(values) if metric.better == "lower" else max(values)
        cells = ""
        for m in measures:
            if name not in m:
                cells += "<td class=number>–"
                continue
            found = m[name]
            mark = " best" if found.value == best and len(values) > 1 else ""
            interval = ""
            if found.interval is not None:
                low, high = (shown_value(name, v) for v in found.interval)
                interval = f"<br><span class=soft>{low} to {high}</span>"
            cells += f"<td class='number{mark}'>{shown_value(name, found.value)}{interval}"
        rows.append(
            f"<tr><td title='{html.escape(metric.meaning)}'>{html.escape(metric.title)}<td>{metric.better}{cells}</tr>"
        )
    note = (
        "<p class=soft>Bold: the best figure. Below each: its 95 % interval; where two overlap, they may be equal.</p>"
    )
    return f"<div class=scroll><table>{''.join(rows)}</table></div>{note}"


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


def _curves(compared: list[Compared]) -> list[str]:
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
    charts = [chart(t, curves) for t, curves in (("loss (smoothed)", loss), ("prompts followed", followed)) if curves]
    colours = ("blue", "orange", "green", "purple", "olive")
    key = ", ".join(f"{colours[i % 5]}: {name}" for i, (name, *_) in enumerate(loss))
    return (
        ["<h2>How they learned</h2>", "<div class=charts>", *charts, "</div>", f"<p class=soft>{html.escape(key)}</p>"]
        if charts
        else []
    )
