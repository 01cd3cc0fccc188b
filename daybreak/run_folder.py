"""A run on disk: named, found, and its config read. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.train.checkpoint_files import complete


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


def load_run_config(run: Path, last_stage: bool = True) -> Config:
    """The config that a run folder holds; ConfigError where it is no run folder.

    last_stage: with the last stage's settings, which are those to draw with; else as it was written.
    """
    check_there(run)
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is no run folder: it holds no config.yaml")
    config = configs.check(configs.load(run / "config.yaml"))
    return configs.at_stage(config, -1) if last_stage else config
