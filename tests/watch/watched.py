"""Logs of runs as they lie on disk, without the hours behind them, and a real `daybreak watch`."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from daybreak import config as configs
from tests.conftest import tiny_config
from tests.program import started
from tests.waiting import LONG


def step_line(step: int, **changes: object) -> str:
    """A line of log.jsonl, as a run of one picture a step writes it."""
    event = {
        "event": "step", "step": step, "images": step, "seconds": step / 2, "progress": min(1.0, step / 100),
        "loss": 2 / step, "terms": {"velocity": 1 / step, "grounding": 1 / step}, "gradient_norm": 1.0,
        "lr_factor": 1.0, "images_per_second": 2.0, "waiting": 0.0, "seconds_left": 1.0, "seconds_to_end": 2.0,
        "measured": {"host_memory_gib": 0.5} if step % 50 == 0 else {}, "learning_rates": {"muon": 0.01},
        "cost": None, "cost_forecast": None,
    } | changes  # fmt: skip
    return json.dumps(event) + "\n"


def write_run(folder: Path, steps: int, recipe: str = "tiny") -> Path:
    """A run folder with a config and a log of so many steps."""
    folder.mkdir(parents=True)
    configs.save(configs.override(tiny_config(), "recipe", recipe), folder / "config.yaml")
    (folder / "log.jsonl").write_text("".join(step_line(n) for n in range(1, steps + 1)))
    return folder


class Watching:
    """A `daybreak watch` process, its address, and an HTTP client for it."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str], url: str) -> None:
        self.process, self.lines, self.url = process, lines, url
        self.http = httpx.Client(base_url=url, timeout=LONG)

    def run(self, name: str, cursor: str = "") -> dict:
        answer = self.http.get("/api/run", params={"name": name, "cursor": cursor})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)


@contextmanager
def watching(*words: object) -> Iterator[Watching]:
    """`daybreak watch ... --port 0`, ready; killed at the end if it still runs."""
    with started([sys.executable, "-m", "daybreak", "watch", *words, "--port", 0]) as program:
        yield Watching(program.process, program.lines, program.url())
