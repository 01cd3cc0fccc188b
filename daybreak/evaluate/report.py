"""report.html: one self-contained page that tells a reader who knows nothing of the run what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from daybreak import config as configs
from daybreak.config import Config
from daybreak.evaluate.report_evaluation import figures_of
from daybreak.evaluate.report_scenes import scenes_score
from daybreak.html.chart import Chart, chart, smooth
from daybreak.html.page import write_page
from daybreak.run_folder import read_events, read_score

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
    samples = [e | {"path": run / "samples" / Path(e["path"]).name} for e in events if e["event"] == "samples"]
    samples = [s for s in samples if s["path"].is_file()]
    score = read_score(run)
    settings = {s: {n: v for n, v, _ in fields} for s, fields in configs.documented_fields(config)}
    return write_page(
        run / "report.html",
        "run.html",
        title=run.name,
        about=_summary(config, steps),
        run=run,
        scenes=scenes_score(score),
        figures=figures_of(run, score),
        charts=_charts(steps, samples) if steps else [],
        samples=samples,
        inside=_inside(run, samples[-1]) if samples else [],
        source=_source(config),
        resolution=config.data.resolution,
        licence=_licence(config),
        skipped=_skipped(run),
        configuration=yaml.safe_dump(settings, sort_keys=False),
    )


def _summary(config: Config, steps: list[dict[str, Any]]) -> str:
    what = config.data.folder or config.data.source
    text = f"recipe {config.recipe}, {what} at {config.data.resolution} px"
    if steps:
        last = steps[-1]
        text += (
            f"; {last['seconds'] / 60:.1f} minutes of training, {last['step']:,} steps, "
            f"{last['images']:,} pictures seen, {last['images'] / last['seconds']:.0f} pictures a second"
        )
    return text


def _source(config: Config) -> str:
    """Where the pictures came from."""
    if config.data.source == "scenes":
        return "rendered by a program as they were needed: free of any licence"
    return str(config.data.folder)


def _licence(config: Config) -> str:
    """What the folder of the pictures says; empty where there is no such folder."""
    if config.data.folder is None or not (folder := Path(config.data.folder).expanduser()).is_dir():
        return ""
    found = sorted(p.name for p in folder.glob("*") if p.name.lower().startswith(("license", "licence", "copying")))
    return f"{', '.join(found)} in that folder" if found else "the folder holds no licence file; ask its source"


def _skipped(run: Path) -> int:
    path = run / "skipped.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def _inside(run: Path, last: dict[str, Any]) -> list[tuple[str, Path]]:
    """What went on inside the model when it generated samples for the last time."""
    found = {name: run / "samples" / Path(file).name for name, file in last.get("inside", {}).items()}
    return [(title, found[name]) for name, title in INSIDE.items() if name in found]


def _charts(steps: list[dict[str, Any]], samples: list[dict[str, Any]]) -> list[Chart]:
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
