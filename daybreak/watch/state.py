"""Where a run stands: whether a process trains it, judges it, or neither. Needs no torch."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from daybreak.run_requests import is_judged, trains

SILENT_SECONDS = 60.0
"""Without a word for so long and ten steps more, a run of an earlier version is taken to stand still."""


def state_of(folder: Path, last: dict[str, Any] | None, begun: bool) -> str:
    """waiting (no step has ended), training, judging, finished, or stopped.

    last: the newest step in the log; begun: whether the log says who began the run, as that of every version that holds
    a lock while it trains (run_requests.py).
    """
    silent = time.time() - max(modified(folder / "log.jsonl"), 0.0 if last else modified(folder))
    alive = trains(folder) if begun else silent < SILENT_SECONDS + 10 * _step_seconds(last or {})
    if last is None:
        return "waiting" if alive or silent < SILENT_SECONDS else "stopped"
    if last.get("progress", 0.0) < 1:
        return "training" if alive else "stopped"
    return "judging" if trains(folder) or is_judged(folder) else "finished"  # it still draws, or what judges it does


def began(folder: Path) -> bool:
    """Whether the run's log says who began it."""
    with suppress(OSError, ValueError), (folder / "log.jsonl").open("rb") as log:
        return json.loads(log.readline()).get("event") == "begin"
    return False


def _step_seconds(last: dict[str, Any]) -> float:
    try:
        return float(last["images"] / last["step"] / last["images_per_second"])
    except (ZeroDivisionError, TypeError, KeyError):
        return 0.0


def modified(path: Path) -> float:
    """When a file was last written, seconds since 1970; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
