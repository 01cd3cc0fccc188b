"""`daybreak status`: where a run stands."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from daybreak import checkpoint_files as folders
from daybreak.config import stage_at
from daybreak.display import duration
from daybreak.history.read import History, checkpoints, read
from daybreak.run_requests import trains
from daybreak.train.deadline import FILE


def show_status(console: Console, run: Path) -> None:
    """Prints what the run folder tells; ConfigError where it is none."""
    history = read(run)
    table = Table(title=str(run), title_justify="left", title_style="bold", box=None, padding=(0, 2), show_header=False)
    for name, value in _facts(history):
        table.add_row(name, value)
    console.print(table, highlight=False)


def _facts(h: History) -> list[tuple[str, str]]:
    last, c = h.last, h.config
    facts = [("recipe", c.recipe), ("state", _state(h))]
    if len(c.stages) > 1:
        facts.append(("stage", f"{stage_at(c, last['progress']) + 1} of {len(c.stages)}"))
    facts += [
        ("progress", f"{last['progress']:.1%}: step {last['step']:,}, {last['images']:,} pictures"),
        ("loss", f"{h.loss():.4f}, learning rate at {last['lr_factor']:.0%}"),
        ("speed", f"{last['images_per_second']:.1f} images/s, {last['waiting']:.0%} waiting for data"),
    ]
    if (mfu := h.measured("mfu")) is not None:
        memory, host = h.measured("memory_gib"), h.measured("host_memory_gib")
        held = "" if memory is None else f", {memory:.1f} GiB of GPU memory at most"
        held += "" if host is None else f", {host:.1f} GiB of main memory at most"
        facts.append(("efficiency", f"{mfu:.0%} of what the device multiplies (transformer's FLOPs){held}"))
    levels = {n.split("/")[1]: v for s in h.steps for n, v in s["measured"].items() if n.startswith("loss_at_noise/")}
    if levels:
        facts.append(("loss by noise level", ", ".join(f"{k}: {v:.3g}" for k, v in sorted(levels.items()))))
    facts.append(("training time", duration(last["seconds"])))
    facts += _ending(h)
    if last["cost"] is not None:
        facts.append(("cost", f"{last['cost']:,.2f} USD so far, {last['cost_forecast'] or 0:,.2f} USD at the end"))
    if (followed := h.followed()) is not None:
        facts.append(("prompts followed", f"{followed:.0%}"))
    if h.metrics:
        values = ", ".join(f"{k} {v:.4g}" for k, v in h.metrics[-1]["values"].items() if v is not None)
        facts.append(("metrics", f"{values} after {h.metrics[-1]['images']:,} pictures"))
    if (score := h.score()) is not None:
        facts.append(("score", f"{score:.1%} of the evaluation's prompts followed; {h.run / 'report.html'}"))
    if h.bad_steps:
        facts.append(("steps not applied", f"{len(h.bad_steps)}; listed in {h.run / 'bad_steps.jsonl'}"))
    best = folders.best(h.run).get("name")
    found = [f"{n}{' (best)' if n == best else ''}{f' DAMAGED: {why}' if why else ''}" for n, why in checkpoints(h.run)]
    return [*facts, ("checkpoints", "\n".join(found) or "none")]


def _state(h: History) -> str:
    """Finished, training, or standing still: by the run's lock, or its log where the file system has no locks."""
    if h.last["progress"] >= 1:
        return "finished"
    if trains(h.run):
        return "training"
    silent = time.time() - (h.run / "log.jsonl").stat().st_mtime
    step = max(1.0, h.config.train.batch / max(1e-9, h.last["images_per_second"]))
    if silent < 60 + 10 * step:
        return "training"
    return f"no step for {duration(silent)}; continue with: daybreak train --resume {h.run}"


def _ending(h: History) -> list[tuple[str, str]]:
    if h.last["progress"] >= 1:
        return []
    facts = []
    if (left := h.last["seconds_left"]) is not None:
        facts.append(("time left", duration(left)))
    path = h.run / FILE
    if path.exists() and (end := json.loads(path.read_text()).get("end")) is not None:
        facts.append(("deadline", f"{datetime.fromtimestamp(end):%Y-%m-%d %H:%M:%S}"))
    return facts
