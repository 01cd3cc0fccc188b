"""A run on disk: named, found, its config, log and score read. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from daybreak import config as configs
from daybreak.checkpoint_files import complete
from daybreak.config import Config, ConfigError
from daybreak.model_folder import FINETUNED_FILE

RUN_FILES = ("config.yaml", FINETUNED_FILE)
"""A folder that holds one of them is a run, of `daybreak train` or of `daybreak finetune`."""
PREFERRING_FILE = "prefer.yaml"
"""The settings of a run of daybreak prefer, beside those of the model."""
FOUND_RATE = ("lr.json", "lr.png")
"""What --find-lr writes."""
IN_THE_BOX = "in-the-box.png"
"""What the demo draws before it trains."""
DATA = "data.npy"
"""What a resumed run knows its pictures and captions by."""
AVERAGES = "averages"
"""Where a run keeps snapshots of averages (train/phema.py)."""
JUDGED = "judged"
"""Where the pictures of a run's evaluation are by themselves."""
REPORT = "report/report.json"
"""What a fine-tuned run's report says of it beside its base."""
SHOWN = "shown.json"
"""In a folder of pictures: what is to be said of them (evaluate/shown.py)."""
OWN = {"config.yaml", "log.jsonl", "tensorboard", "samples", "stalls", "checkpoints", "deadline.json",
       "skipped.jsonl", "bad_steps.jsonl", "metrics", AVERAGES, "trackers.json", "wandb", "requests",
       "notes.yaml", "captions.json", "libraries.log", DATA}  # fmt: skip
"""What a run puts into its folder until its first checkpoint."""


def new_run_folder(name: str) -> Path:
    """runs/NAME-DATE-TIME, which does not exist yet."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def run_to_continue(recipe: str | None, out: Path | None) -> Path | None:
    """The run that --resume auto means; None where there is nothing to continue and a recipe to begin with."""
    if recipe is None:
        if out is not None:
            return out
        runs = [p for p in Path("runs").glob("*") if complete(p)]
        if not runs:
            raise ConfigError("--resume auto: no folder in runs/ holds a checkpoint, and no recipe says what to begin")
        return max(runs, key=lambda p: complete(p)[-1].stat().st_mtime)
    if out is None:
        raise ConfigError("--resume auto with a recipe needs --out RUN: the folder to continue, or to begin")
    return out if complete(out) else None


def check_there(run: Path) -> None:
    """ConfigError where there is no such folder."""
    if not run.is_dir():
        raise ConfigError(f"{run}: no such run folder")


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, from its first moment on."""
    return any((folder / mark).is_file() for mark in RUN_FILES)


def check_run(run: Path) -> None:
    """ConfigError where there is no such folder, or it is no run's."""
    check_there(run)
    if not is_run(run):
        raise ConfigError(f"{run} is no run folder: it holds neither {' nor '.join(RUN_FILES)}")


def check_free(run: Path) -> None:
    """ConfigError where a new run may not have the folder."""
    if run.exists() and not _is_free(run):
        raise ConfigError(f"{run} is not empty: choose another --out, or continue it with --resume")


def _is_free(run: Path) -> bool:
    """Whether a new run may take the folder: it is empty, or a run ended in it before its first checkpoint.

    What the demo drew there with the model in the box does not count.
    """
    if not run.is_dir():
        return False
    names = {p.name for p in run.iterdir()} - {IN_THE_BOX, *FOUND_RATE}
    visible = {name for name in names if not name.startswith(".")}  # hidden: what a killed run was writing
    begun = "config.yaml" in names and visible <= OWN and not complete(run)
    return not names or begun


def refuse_preferring(run: Path) -> None:
    """ConfigError where `daybreak prefer` began the run, which alone goes on with it."""
    if (run / PREFERRING_FILE).is_file():
        raise ConfigError(f"{run} was begun by daybreak prefer: go on with daybreak prefer --resume {run}")


def load_run_config(run: Path, last_stage: bool = True) -> Config:
    """The config that a run folder holds; ConfigError where it is no run folder.

    last_stage: with the last stage's settings, which are those to draw with; else as it was written.
    """
    check_there(run)
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is no run folder: it holds no config.yaml")
    config = configs.check(configs.load(run / "config.yaml"))
    return configs.at_stage(config, -1) if last_stage else config


def trained_config(run: Path) -> Config:
    """As `load_run_config`, of a run that can draw: ConfigError where it holds no checkpoint yet."""
    config = load_run_config(run)
    newest(run)
    return config


def read_events(run: Path, last_bytes: int | None = None) -> list[dict[str, Any]]:
    """The lines of RUN/log.jsonl; none where there is no log. Half a line at either end is passed over.

    last_bytes: only those in so many bytes at the end of the log.
    """
    log, events = run / "log.jsonl", []
    if not log.exists():
        return []
    with log.open("rb") as file:
        if last_bytes is not None:
            file.seek(max(0, log.stat().st_size - last_bytes))
        text = file.read().decode(errors="replace")
    for line in text.splitlines():
        with suppress(ValueError):  # being written, or cut by `last_bytes`
            events.append(json.loads(line))
    return [event for event in events if isinstance(event, dict)]


def read_score(folder: Path) -> dict[str, Any]:
    """What score.json holds; empty where there is none."""
    path = folder / "score.json"
    return json.loads(path.read_text()) if path.exists() else {}


def shown_folder(grid: Path) -> Path:
    """Where the pictures of the samples in the PNG `grid` are by themselves."""
    return grid.with_suffix("")


def read_shown(folder: Path) -> dict[str, Any]:
    """What FOLDER/shown.json holds; empty where there is none, as in runs of earlier versions."""
    try:
        return dict(json.loads((folder / SHOWN).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def newest(run: Path) -> Path:
    """The newest checkpoint, damaged or not; ConfigError where there is none."""
    check_there(run)
    found = complete(run)
    if not found:
        raise ConfigError(f"{run} holds no checkpoint (looked for checkpoints/step-*)")
    return found[-1]


def stored_averages(run: Path) -> list[Path]:
    """The snapshots that an average of another length is made of (train/phema.py).

    Raises ConfigError where the run stored none.
    """
    paths = sorted((run / AVERAGES).glob("length-*-update-*.safetensors"))
    if len(paths) < 2:
        raise ConfigError(f"{run} stored no snapshots: train with --train.posthoc_ema 0.05,0.1")
    return paths
