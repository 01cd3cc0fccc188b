"""Which runs there are below the folders that are watched. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.run_folder import RUN_FILES, is_run

DEPTH = 3
"""How deep runs are looked for: runs/ABLATION/RECIPE/SEED."""
NOT_RUNS = {"checkpoints", "samples", "tensorboard", "averages", "metrics"}
"""Folders of a run, in which there is no other."""


def find_runs(places: Sequence[Path]) -> dict[str, Path]:
    """Runs by name: each of `places` that is one, and those in it otherwise; by their names, then by their folders.

    A name is the path from the place on, and holds the place's own name where two runs would have the same.
    """
    found: dict[str, Path] = {}
    for place in places:
        runs = [place] if is_run(place) else sorted(_below(place, DEPTH))
        for run in runs:
            name = run.name if run == place else run.relative_to(place).as_posix()
            if name in found and found[name] != run:
                name = run.as_posix()
            found[name] = run
    return found


def check_places(places: Sequence[Path]) -> None:
    """ConfigError for a place that is no folder, and where no place holds a run."""
    for place in places:
        if not place.is_dir():
            raise ConfigError(f"{place}: no such folder; name a run, or a folder of runs")
    if not find_runs(places):
        where = ", ".join(map(str, places))
        raise ConfigError(
            f"{where} holds no run (no {' or '.join(RUN_FILES)} in it, nor {DEPTH} folders deep); "
            "daybreak train writes runs into runs/"
        )


def _below(place: Path, depth: int) -> list[Path]:
    found = []
    try:
        with os.scandir(place) as entries:
            folders = [e for e in entries if e.is_dir() and e.name not in NOT_RUNS and not e.name.startswith(".")]
    except OSError:  # gone, or not to be read: there is no run in it for us
        return []
    for entry in folders:
        folder = Path(entry.path)
        if is_run(folder):
            found.append(folder)
        elif depth > 1:
            found += _below(folder, depth - 1)
    return found
