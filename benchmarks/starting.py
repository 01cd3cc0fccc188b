"""CPU seconds until a command has its first step, picture or answer, beside another checkout of this project.

    git worktree add ../baseline f341038
    python benchmarks/starting.py --baseline ../baseline

Linux alone: CPU time is read from /proc. Each figure is the best of some rounds, the two checkouts in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
TRAIN = [
    "train", "scenes-demo", "--train.minutes=none", "--evaluate.prompts_per_task=1", "--evaluate.held_out_prompts=1",
]  # fmt: skip
TICKS = os.sysconf("SC_CLK_TCK")


def start(tree: Path, words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """`daybreak` of a checkout on one thread, in a folder."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "daybreak", *words]
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(process: subprocess.Popen[bytes], there: Callable[[], bool]) -> float:
    """CPU seconds of a process and of those it started, when `there` holds first; it is ended then."""
    while not there():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        time.sleep(0.01)
    ticks = _ticks_of_all(process.pid)
    process.kill()
    process.wait()
    return ticks / TICKS


def _ticks_of_all(pid: int) -> int:
    """Of a process, of those it has waited for, and of all that descend from it and still run."""
    own = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # one that has ended meanwhile
            fields = file.read_text().rpartition(")")[2].split()
            own[int(file.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    family = {pid}
    while children := {child for child, (parent, _) in own.items() if parent in family} - family:
        family |= children
    return sum(own[member][1] for member in family)


def whole(tree: Path, words: list[str], folder: Path) -> float:
    """CPU seconds of a command from its start to its end."""
    process = start(tree, words, folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{words} ended with {status}")
    return usage.ru_utime + usage.ru_stime


def training(tree: Path, folder: Path) -> float:
    """To the first step."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    process = start(tree, [*TRAIN, "--train.steps", "100", "--out", str(run)], folder)
    return until(process, lambda: (run / "log.jsonl").exists() and '"event": "step"' in (run / "log.jsonl").read_text())


def serving(tree: Path, folder: Path) -> float:
    """To the first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/images/generations",
        json.dumps({"prompt": "a red circle", "steps": 1}).encode(),
        {"Content-Type": "application/json"},
    )

    def answered() -> bool:
        try:
            return bool(urllib.request.urlopen(request, timeout=30).read())
        except OSError:
            return False

    return until(start(tree, ["serve", "run", "--port", str(port)], folder), answered)


def main() -> None:
    """Prints a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    draw = ["sample", "run", "--prompt", "a red circle", "--steps", "1", "--out", "grid.png"]
    cases: dict[str, Callable[[Path, Path], float]] = {
        "--help": lambda tree, folder: whole(tree, ["--help"], folder),
        "settings scenes": lambda tree, folder: whole(tree, ["settings", "scenes"], folder),
        "status": lambda tree, folder: whole(tree, ["status", "run"], folder),
        "compare": lambda tree, folder: whole(tree, ["compare", "run", "run2"], folder),
        "plan scenes": lambda tree, folder: whole(tree, ["plan", "scenes"], folder),
        "sample": lambda tree, folder: whole(tree, draw, folder),
        "serve, to its first answer": serving,
        "train, to its first step": training,
    }
    trees = {"baseline": options.baseline.resolve(), "now": HERE}
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / name for name in trees}
        for name, tree in trees.items():
            folders[name].mkdir()
            for run in ("run", "run2"):
                whole(tree, [*TRAIN, "--train.steps", "2", "--out", run], folders[name])
        print("| command | baseline | now | ratio |\n|---|---|---|---|")
        for case, measure in cases.items():
            best = {name: float("inf") for name in trees}
            for _ in range(options.rounds):
                for name, tree in trees.items():
                    best[name] = min(best[name], measure(tree, folders[name]))
            print(f"| {case} | {best['baseline']:.2f} | {best['now']:.2f} | {best['now'] / best['baseline']:.2f} |")


if __name__ == "__main__":
    main()
