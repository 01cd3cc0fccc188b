"""Runs of `daybreak` in processes of their own, killed with SIGKILL while they train."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """One thread a process, this checkout."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "300"}


def lines_of_log(run: Path) -> int:
    """How many events a run has logged."""
    log = run / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def kill_while_it_trains(words: list[object], run: Path, events: int, delay: float) -> bool:
    """Starts `daybreak WORDS` and kills it `delay` seconds after `run` has logged so many further events. Whether it
    was still running, and the kill met it."""
    seen, call = lines_of_log(run), [sys.executable, "-m", "daybreak", *map(str, words)]
    process = subprocess.Popen(call, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and lines_of_log(run) < seen + events:
        time.sleep(0.005)
    time.sleep(delay)
    met = process.poll() is None
    if met:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return met
