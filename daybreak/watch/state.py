"""Where a run stands: whether a process trains it, judges it, or neither. Needs no torch."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from daybreak.model_folder import FINETUNED_FILE
from daybreak.run_requests import trains

SILENT_SECONDS = 60.0
"""Without a word for so long and ten steps more, a run of an earlier version is taken to stand still."""
JUDGING_SECONDS = 1800.0
"""For so long after the last word of its training, a run without a score is taken to be judged."""
REPORT = "report/report.json"
"""What a fine-tuning run says of itself beside its base (finetune/report.py)."""


def state_of(folder: Path, last: dict[str, Any] | None, begun: bool, scored: bool) -> str:
    """waiting (no step has ended), training, judging, finished, or stopped.

    last: the newest step in the log; begun: whether the log says who began the run, as that of every version that holds
    a lock while it trains (run_requests.py); scored: whether there is a score.
    """
    silent = time.time() - max(modified(folder / "log.jsonl"), 0.0 if last else modified(folder))
    alive = trains(folder) if begun else silent < SILENT_SECONDS + 10 * _step_seconds(last or {})
    if last is None:
        return "waiting" if alive or silent < SILENT_SECONDS else "stopped"
    if last.get("progress", 0.0) < 1:
        return "training" if alive else "stopped"
    judged = scored or not _is_judged(folder) or silent > JUDGING_SECONDS
    return "finished" if judged else "judging"


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


def _is_judged(folder: Path) -> bool:
    """Whether a figure follows the training: the judge's on scenes, a fine-tuning run's report."""
    for file, asks, answer in (
        (FINETUNED_FILE, r"^report: *true", REPORT), ("finetune_own.yaml", r"^report: *true", REPORT),
        ("config.yaml", r"^ +source: *scenes", "score.json"),
    ):  # fmt: skip
        with suppress(OSError, UnicodeDecodeError):
            if re.search(asks, (folder / file).read_text(encoding="utf-8"), re.MULTILINE):
                return not (folder / answer).is_file()
    return False
