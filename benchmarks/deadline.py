"""Does a run end by its deadline? Repeats `daybreak train scenes --deadline ...` and times each command from outside.

    python benchmarks/deadline.py --seconds 180 --runs 10
    python benchmarks/deadline.py --seconds 180 --runs 3 --kill      # each killed once and continued

Prints for each run how far before (negative) or after its deadline the command ended, and whether it left a decayed,
averaged, evaluated model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def one(folder: Path, seconds: float, seed: int, kill: bool) -> tuple[float, bool, float]:
    """Seconds after the deadline, whether all is there, and the last learning rate over its base."""
    run = folder / f"run-{seed}"
    command = [sys.executable, "-m", "daybreak", "train", "scenes", "--out", str(run), "--resume", "auto",
               "--deadline", f"{seconds}s", "--train.seed", str(seed), "--train.save_minutes", "0.1"]  # fmt: skip
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    if kill:
        time.sleep(random.Random(seed).uniform(0.4, 0.7) * seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    code = process.wait()
    late = time.time() - began - seconds
    steps = [e for e in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if e["event"] == "step"]
    whole = code == 0 and (run / "score.json").exists() and (run / "report.html").exists()
    return late, whole, steps[-1]["lr_factor"]


def main() -> None:
    """Prints a line a run, and the worst."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--kill", action="store_true", help="Kill each run once, and continue it.")
    arguments = parser.parse_args()
    lateness = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.runs):
            late, whole, rate = one(Path(folder), arguments.seconds, seed, arguments.kill)
            lateness.append(late)
            print(f"run {seed}: {late:+.2f} s ({late / arguments.seconds:+.2%}), evaluated: {whole}, "
                  f"last learning rate {rate:.1%} of its base", flush=True)  # fmt: skip
    inside = sum(-0.02 * arguments.seconds <= late <= 0 for late in lateness)
    print(f"{inside} of {arguments.runs} at most 2 % before it: {min(lateness):+.2f} to {max(lateness):+.2f} s")


if __name__ == "__main__":
    main()
