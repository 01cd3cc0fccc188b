"""report.html: one self-contained page that tells a reader who knows nothing of the run what it did."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import yaml

from daybreak import __version__
from daybreak import config as configs
from daybreak.config import Config
from daybreak.evaluate import html_parts as parts_of
from daybreak.evaluate.html_parts import chart, image, smooth
from daybreak.evaluate.report_evaluation import evaluation_sections
from daybreak.evaluate.report_scenes import scenes_score

INSIDE = {
    "guidance": "The same noise with the other kind of guidance",
    "predictions": "Pictures of the data, and what the model takes them for through more and less noise",
    "attention": "Where each word of a prompt is looked at, and its share of the attention to the text",
}
"""Titles of what `samples` events name besides the grid."""


def write_report(run: Path, config: Config) -> Path:
    """Writes RUN/report.html from what the run folder holds: log, score, samples, grids. Returns its path."""
    events = read_events(run)
    steps = [e for e in events if e["event"] == "step"]
    samples = [e for e in events if e["event"] == "samples" and Path(e["path"]).name in _names(run / "samples")]
    score = read_score(run)
    parts = [f"<h1>{html.escape(run.name)}</h1>", f"<p class=soft>{_summary(config, steps)}</p>"]
    if "overall" in score:
        parts += ["<h2>Does it follow its prompts?</h2>", scenes_score(score)]
    parts += evaluation_sections(run, score)
    if (run / "grid.png").exists():
        parts += [
            "<h2>What it draws</h2>",
            "<p class=soft>The first prompts of each task, not chosen by how they came out; green: followed in every "
            "attribute, red: not.</p>",
            image(run / "grid.png"),
        ]
    if steps:
        parts += ["<h2>How it learned</h2>", '<div class="charts">', *_charts(steps, samples), "</div>"]
    if (run / "failures.png").exists():
        parts += ["<h2>Where it fails</h2>", image(run / "failures.png")]
    if samples:
        parts.append("<h2>The same prompts over time</h2>")
        for s in samples:
            followed = "" if s["followed"] is None else f", {s['followed']:.0%} followed"
            parts.append(f"<h3>{s['seconds'] / 60:.1f} min, {s['images']:,} pictures seen{followed}</h3>")
            parts.append(image(run / "samples" / Path(s["path"]).name))
        parts += _inside(run, samples[-1])
    parts += ["<h2>Data</h2>", *_data(run, config)]
    settings = {s: {n: v for n, v, _ in fields} for s, fields in configs.documented_fields(config)}
    parts += ["<h2>Configuration</h2>", f"<pre>{html.escape(yaml.safe_dump(settings, sort_keys=False))}</pre>"]
    path = run / "report.html"
    path.write_text(parts_of.page(run.name, parts), encoding="utf-8")
    return path


def read_events(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl; none where there is no log."""
    path = run / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def read_score(folder: Path) -> dict[str, Any]:
    """What score.json holds; empty where there is none."""
    path = folder / "score.json"
    return json.loads(path.read_text()) if path.exists() else {}


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


def _data(run: Path, config: Config) -> list[str]:
    """Where the pictures came from, what was left out, and under which licence."""
    d = config.data
    what = "drawn by a program as they were needed: free of any licence" if d.source == "scenes" else str(d.folder)
    parts = [f"<p>{html.escape(what)}; {d.resolution} px</p>"]
    if d.folder and (folder := Path(d.folder).expanduser()).is_dir():
        found = sorted(p.name for p in folder.glob("*") if p.name.lower().startswith(("license", "licence", "copying")))
        said = f"{', '.join(found)} in that folder" if found else "the folder holds no licence file; ask its source"
        parts.append(f"<p>Licence of the pictures: {html.escape(said)}.</p>")
    if (run / "skipped.jsonl").exists():
        n = len((run / "skipped.jsonl").read_text().splitlines())
        parts.append(f"<p>{n} items could not be used; skipped.jsonl lists each with its reason.</p>")
    return parts


def _inside(run: Path, last: dict[str, Any]) -> list[str]:
    """What went on inside the model when it drew for the last time."""
    found = {name: run / "samples" / Path(file).name for name, file in last.get("inside", {}).items()}
    parts = [f"<h3>{INSIDE[name]}</h3>{image(found[name])}" for name in INSIDE if name in found]
    return ["<h2>What goes on inside</h2>", *parts] if parts else []


def _charts(steps: list[dict[str, Any]], samples: list[dict[str, Any]]) -> list[str]:
    minutes = [s["seconds"] / 60 for s in steps]
    curves = {
        "loss (smoothed)": smooth([s["loss"] for s in steps]),
        "gradient norm (smoothed)": smooth([s["gradient_norm"] for s in steps]),
        "learning rate, share of the base rate": [s["lr_factor"] for s in steps],
        "images/s": [s["images_per_second"] for s in steps],
    }
    charts = [chart(title, [("", minutes, values)]) for title, values in curves.items()]
    followed = [(s["seconds"] / 60, s["followed"]) for s in samples if s["followed"] is not None]
    if len(followed) > 1:
        charts.insert(1, chart("prompts followed", [("", [m for m, _ in followed], [f for _, f in followed])]))
    return charts
