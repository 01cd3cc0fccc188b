"""What `daybreak watch` costs a run that trains, and how fast it opens a hundred runs.

    python benchmarks/watching.py cost [--windows 12] [--seconds 20] [--browser] [--recipe scenes]
    python benchmarks/watching.py open [--runs 100] [--steps 10000]

cost: one run trains; in every second window its page is open, asking as the page of main.js does (every two seconds for
what is new, and for each new picture), or with --browser by headless Chromium itself, which then runs on this machine,
too. Baseline: the windows between, of the same run. open: from the command to the list of all runs, and to one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
BUSY_SECONDS = 2
"""Between two questions of the page, of a run that trains."""


@contextmanager
def watching(place: Path):
    """A `daybreak watch` process; yields (its address, seconds from the command to it, the process)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "daybreak", "watch", str(place), "--port", "0"], env=ENVIRONMENT,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        while (found := re.search(r"http://\S+:\d+", process.stdout.readline())) is None:
            assert process.poll() is None
        yield found[0], time.monotonic() - began, process
    finally:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Page:
    """Asks a server as an open page does."""

    def __init__(self, url: str, name: str) -> None:
        self._http, self._name, self._cursor = httpx.Client(base_url=url, timeout=60), name, ""
        self._seen: set[str] = set()
        self._http.get("/")

    def ask(self) -> None:
        """Once."""
        told = self._http.get("/api/run", params={"name": self._name, "cursor": self._cursor}).json()
        self._cursor = told["cursor"]
        for event in told["events"]:
            for picture in event.get("pictures", []):
                if picture["file"] not in self._seen:
                    self._seen.add(picture["file"])
                    self._http.get("/file", params={"name": self._name, "path": picture["file"]})


def look(url: str, name: str, browser: bool, over: threading.Event) -> None:
    """Keeps the page open until `over`."""
    if not browser:
        page = Page(url, name)
        while not over.wait(BUSY_SECONDS):
            page.ask()
        return
    from tests.watch.chromium import chromium

    with chromium() as driver:
        driver.get(url)
        over.wait()


def cost(o: argparse.Namespace) -> None:
    """See the head of this file."""
    with tempfile.TemporaryDirectory() as folder:
        run = o.keep or Path(folder) / "run"
        minutes = (o.windows * (o.seconds + 3) + 30) / 60
        words = ["train", o.recipe, f"--train.minutes={minutes:.2f}", f"--out={run}", "--evaluate.prompts_per_task=4",
                 "--train.sample_every=0.0625"]  # fmt: skip
        training = subprocess.Popen(
            [sys.executable, "-m", "daybreak", *words], env=ENVIRONMENT, stdout=subprocess.DEVNULL
        )  # fmt: skip
        try:
            print(json.dumps(measured(o, run, training.pid)))
            if o.keep:
                training.wait()
        finally:
            training.kill()
            training.wait()


def measured(o: argparse.Namespace, run: Path, trainer: int) -> dict[str, Any]:
    """Images/s in windows with the page open and without, in turn; and images a CPU second of the run, which other
    programs on the machine move less."""
    log = run / "log.jsonl"
    while not log.exists() or log.read_text().count('"step"') < 20:
        time.sleep(1)
    speeds: dict[bool, list[float]] = {True: [], False: []}
    efforts: dict[bool, list[float]] = {True: [], False: []}
    used = 0.0
    with watching(run) as (url, _, server):
        for window in range(o.windows):
            opened = window % 2 == 1
            over = threading.Event()
            looking = threading.Thread(target=look, args=(url, run.name, o.browser, over)) if opened else None
            if looking is not None:
                looking.start()
            time.sleep(3)  # the page is there, and what opening it took is over
            before, processor, began = last_step(log), cpu_seconds(server.pid), time.monotonic()
            worked = cpu_seconds(trainer)
            time.sleep(o.seconds)
            after, worked = last_step(log), cpu_seconds(trainer) - worked
            images = after["images"] - before["images"]
            speeds[opened].append(images / (after["seconds"] - before["seconds"]))
            efforts[opened].append(images / worked)
            if looking is not None:
                used += (cpu_seconds(server.pid) - processor) / (time.monotonic() - began)
                over.set()
                looking.join()
    pairs = [a / b for a, b in zip(speeds[True], speeds[False], strict=True)]
    return {
        "images/s, page open": round(statistics.median(speeds[True]), 2),
        "images/s, without": round(statistics.median(speeds[False]), 2),
        "ratio, median of pairs": round(statistics.median(pairs), 3),
        "ratios": [round(p, 3) for p in pairs],
        "images a CPU second, page open over without": round(
            statistics.median(efforts[True]) / statistics.median(efforts[False]), 3
        ),
        "server, share of a core": round(used / len(speeds[True]), 4),
    }


def last_step(log: Path) -> dict[str, Any]:
    """The newest whole step."""
    lines = log.read_text().splitlines()
    return next(e for e in map(json.loads, reversed(lines[:-1])) if e["event"] == "step")


def open_many(o: argparse.Namespace) -> None:
    """See the head of this file."""
    from tests.watch.watched import step_line, write_run

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "runs"
        first = write_run(place / "run-000", 0)
        (first / "log.jsonl").write_text("".join(step_line(n) for n in range(1, o.steps + 1)))
        for i in range(1, o.runs):
            shutil.copytree(first, place / f"run-{i:03}")
        found: dict[str, list[float]] = {}
        for _ in range(o.repetitions):
            with watching(place) as (url, seconds, _process):
                http = httpx.Client(base_url=url, timeout=60)
                began = time.monotonic()
                http.get("/").raise_for_status()
                assert len(http.get("/api/runs").raise_for_status().json()) == o.runs
                listed = time.monotonic() - began
                http.get("/api/runs").raise_for_status()
                again = time.monotonic() - began - listed
                began = time.monotonic()
                http.get("/api/run", params={"name": "run-000"}).raise_for_status()
                one = time.monotonic() - began
            row = {"the command": seconds, "page and list": listed, "the list again": again, "one run": one}
            for name, value in row.items():
                found.setdefault(name, []).append(value)
        size = (first / "log.jsonl").stat().st_size / 2**20
    shown = {name: round(statistics.median(values), 3) for name, values in found.items()}
    print(json.dumps({"runs": o.runs, "steps": o.steps, "MiB of log each": round(size, 1), "seconds": shown}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("cost")
    sub.add_argument("--windows", type=int, default=12)
    sub.add_argument("--seconds", type=float, default=20)
    sub.add_argument("--browser", action="store_true")
    sub.add_argument("--recipe", default="scenes")
    sub.add_argument("--keep", type=Path, help="where the run is written, and stays; default: nowhere")
    sub.set_defaults(do=cost)
    sub = commands.add_parser("open")
    sub.add_argument("--runs", type=int, default=100)
    sub.add_argument("--steps", type=int, default=10_000)
    sub.add_argument("--repetitions", type=int, default=3)
    sub.set_defaults(do=open_many)
    options = parser.parse_args()
    options.do(options)
