"""report.html: one self-contained page that tells a reader who knows nothing of the run what it did."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

import yaml

from daybreak import __version__
from daybreak import config as configs
from daybreak.config import Config
from daybreak.data.scenes.world import TASKS

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #777; --line: #ddd; --paper: #fff; --mark: #2a6fdb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #999; --line: #444; --paper: #181818; --mark: #7ab0ff; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1100px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } .soft { color: var(--soft); } img { max-width: 100%; height: auto; border-radius: 4px; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { background: var(--line); width: 16rem; height: .8rem; border-radius: 3px; }
.bar div { background: var(--mark); height: 100%; border-radius: 3px; }
.charts { display: flex; flex-wrap: wrap; gap: 1.5rem; } svg { width: 340px; max-width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg path.frame { stroke: var(--line); fill: none; }
svg path.curve { stroke: var(--mark); fill: none; stroke-width: 1.5; }
pre { overflow-x: auto; border: 1px solid var(--line); padding: 1rem; border-radius: 4px; font-size: 13px; }
"""


def write_report(run: Path, config: Config) -> Path:
    """Writes RUN/report.html from what the run folder holds: log, score, samples, grids. Returns its path."""
    events = _events(run / "log.jsonl")
    steps = [e for e in events if e["event"] == "step"]
    samples = [e for e in events if e["event"] == "samples" and Path(e["path"]).name in _names(run / "samples")]
    parts = [f"<h1>{html.escape(run.name)}</h1>", f"<p class=soft>{_summary(config, steps)}</p>"]
    if (run / "score.json").exists():
        parts += ["<h2>Does it follow its prompts?</h2>", _scores(json.loads((run / "score.json").read_text()))]
    if (run / "grid.png").exists():
        parts += [
            "<h2>What it draws</h2>",
            "<p class=soft>The first prompts of each task, not chosen by how they came out; green: followed in every "
            "attribute, red: not.</p>",
            _image(run / "grid.png"),
        ]
    if steps:
        parts += ["<h2>How it learned</h2>", '<div class="charts">', *_charts(steps, samples), "</div>"]
    if (run / "failures.png").exists():
        parts += ["<h2>Where it fails</h2>", _image(run / "failures.png")]
    if samples:
        parts.append("<h2>The same prompts over time</h2>")
        for s in samples:
            followed = "" if s["followed"] is None else f", {s['followed']:.0%} followed"
            parts.append(f"<h3>{s['seconds'] / 60:.1f} min, {s['images']:,} pictures seen{followed}</h3>")
            parts.append(_image(run / "samples" / Path(s["path"]).name))
    if (run / "skipped.jsonl").exists():
        n = len((run / "skipped.jsonl").read_text().splitlines())
        parts.append(f"<h2>Data</h2><p>{n} items could not be used; skipped.jsonl lists each with its reason.</p>")
    settings = {s: {n: v for n, v, _ in fields} for s, fields in configs.documented_fields(config)}
    parts += ["<h2>Configuration</h2>", f"<pre>{html.escape(yaml.safe_dump(settings, sort_keys=False))}</pre>"]
    path = run / "report.html"
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(run.name)}</title><style>{_STYLE}</style>{''.join(parts)}</html>",
        encoding="utf-8",
    )
    return path


def _events(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.glob("*.png")}


def _summary(config: Config, steps: list[dict[str, Any]]) -> str:
    what = config.data.folder or config.data.source
    text = f"recipe {config.recipe}, {what} at {config.data.resolution} px"
    if steps:
        last = steps[-1]
        text += (
            f"; {last['seconds'] / 60:.1f} minutes of training, {last['step']:,} steps, "
            f"{last['images']:,} pictures seen, {last['images'] / last['seconds']:.0f} pictures a second"
        )
    return html.escape(f"{text}; daybreak {__version__}")


def _scores(scores: dict[str, float]) -> str:
    titles = {"one_and_two_objects": "one and two objects", "held_out": "held-out combinations", "overall": "overall"}
    rows = []
    for key in (*TASKS, *titles):
        if key in scores:
            share = scores[key]
            rows.append(
                f"<tr><td>{titles.get(key, key)}<td><div class=bar><div style='width:{share:.1%}'></div></div>"
                f"<td class=number>{share:.1%}</tr>"
            )
    note = (
        "<p class=soft>Share of prompts whose picture satisfies them in every attribute, as a program reads it "
        "from the pixels. Held-out combinations never occur in training. Overall is the mean of the six tasks.</p>"
    )
    return f"<table>{''.join(rows)}</table>{note}"


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<p><img alt='{html.escape(path.stem)}' src='data:image/png;base64,{data}'></p>"


def _charts(steps: list[dict[str, Any]], samples: list[dict[str, Any]]) -> list[str]:
    minutes = [s["seconds"] / 60 for s in steps]
    charts = [
        _chart("loss (smoothed)", minutes, _smooth([s["loss"] for s in steps])),
        _chart("gradient norm (smoothed)", minutes, _smooth([s["gradient_norm"] for s in steps])),
        _chart("learning rate, share of the base rate", minutes, [s["lr_factor"] for s in steps]),
        _chart("images/s", minutes, [s["images_per_second"] for s in steps]),
    ]
    followed = [(s["seconds"] / 60, s["followed"]) for s in samples if s["followed"] is not None]
    if len(followed) > 1:
        charts.insert(1, _chart("prompts followed", [m for m, _ in followed], [f for _, f in followed]))
    return charts


def _smooth(values: list[float], keep: float = 0.98) -> list[float]:
    """Exponential moving average, started at the mean of the first few."""
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    average = sum(finite[:20]) / max(1, len(finite[:20]))
    result = []
    for v in values:
        if v == v and abs(v) != float("inf"):
            average = keep * average + (1 - keep) * v
        result.append(average)
    return result


def _chart(title: str, x: list[float], y: list[float]) -> str:
    """A line chart over minutes of training as inline SVG, at most 300 points."""
    stride = max(1, len(x) // 300)
    x, y = x[::stride], y[::stride]
    left, top, width, height = 46, 22, 284, 150
    low, high = min(0.0, min(y)), max(y)
    high = high if high > low else low + 1
    end = max(x) or 1
    points = " L".join(
        f"{left + width * a / end:.1f},{top + height * (1 - (b - low) / (high - low)):.1f}"
        for a, b in zip(x, y, strict=True)
    )
    return (
        f"<svg viewBox='0 0 340 200' role=img aria-label='{title}'><text x={left} y=14>{title}</text>"
        f"<path class=frame d='M{left},{top} V{top + height} H{left + width}'/>"
        f"<text x=4 y={top + 6}>{high:.3g}</text><text x=4 y={top + height}>{low:.3g}</text>"
        f"<text x={left + width} y={top + height + 16} text-anchor=end>{end:.1f} min</text>"
        f"<path class=curve d='M{points}'/></svg>"
    )
