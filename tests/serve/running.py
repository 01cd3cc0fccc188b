"""Real servers in processes of their own, around a real small model."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import torch

from daybreak import config as configs
from daybreak.data.batch import to_uint8
from daybreak.formats.run import load_averaged
from daybreak.sampling.generate import generate
from tests.program import started
from tests.waiting import LONG, wait_until


class RunningServer:
    """A `daybreak serve` process, its address, and an HTTP client for it."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str], url: str) -> None:
        self.process, self.lines, self.url = process, lines, url
        self.http = httpx.Client(base_url=url, timeout=LONG)

    def draw(self, prompt: str = "a red circle", **fields: object) -> httpx.Response:
        return self.http.post("/v1/images/generations", json={"prompt": prompt, **fields})

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.http.get("/metrics").text, re.M)
        return float(found[1]) if found else 0.0

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG)


@contextmanager
def serving(*words: object, port: int = 0) -> Iterator[RunningServer]:
    """`daybreak serve ... --port PORT`, ready; killed at the end if it still runs."""
    words = [sys.executable, "-m", "daybreak", "serve", *words, "--port", port]
    with started(words, COLUMNS="200", OMP_NUM_THREADS="1") as program:
        server = RunningServer(program.process, program.lines, program.url())

        def ready() -> bool:
            program.check()
            with suppress(httpx.TransportError):
                return server.http.get("/ready").status_code == 200
            return False

        wait_until(ready, "the server to be ready")
        yield server
        server.http.close()


def drawn_here(run: Path, prompt: str, seed: int) -> np.ndarray:
    """What `daybreak sample` draws of the prompt as it stands, [H, W, 3] uint8."""
    config = configs.override(configs.load(run / "config.yaml"), "sample.expand", "none")
    networks = load_averaged(run, config, torch.device("cpu"))
    return to_uint8(generate(*networks, [prompt], config, seed))[0]
