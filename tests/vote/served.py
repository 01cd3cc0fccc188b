"""A comparison of two folders, and its server in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.waiting import LONG

ROOT = Path(__file__).parents[3]
NAMES = ("sunrise-model", "baseline-model")
ITEMS = 8


def two_folders(folder: Path) -> list[Path]:
    """Two contestants; a picture's red tells whose it is (200, 40), its green which prompt it is of (10 times)."""
    paths = []
    for name, red in zip(NAMES, (200, 40), strict=True):
        path = folder / name
        path.mkdir()
        rows = []
        for item in range(ITEMS):
            notes = PngInfo()
            notes.add_text("parameters", f"drawn by {name}")
            Image.new("RGB", (64, 64), (red, 10 * item, 90)).save(path / f"{name}-{item}.png", pnginfo=notes)
            rows.append({"file_name": f"{name}-{item}.png", "text": f"prompt number {item}"})
        (path / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        paths.append(path)
    return paths


class Server:
    """`daybreak compare-blind` with `words`; `links` are the voters'."""

    def __init__(self, *words: object, cwd: Path) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "daybreak", "compare-blind", *map(str, words)]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.output = ""
        too_late = threading.Timer(LONG, self.process.kill)
        too_late.start()
        while "after a stop" not in self.output:
            line = self.process.stdout.readline()
            if not line:
                self.process.kill()
                raise AssertionError(f"no server: {self.output} {self.process.communicate()[1]}")
            self.output += line
        too_late.cancel()
        self.links = re.findall(r"http://\S+/v/\S+/", self.output)
        self.port = int(re.search(r":(\d+)/", self.links[0])[1])

    def kill(self) -> None:
        """SIGKILL: no handler of the server runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> str:
        """SIGINT, as Ctrl-C sends; returns what is said last."""
        return self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> str:
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=LONG)
        return rest


def get(url: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a GET, or of a POST of JSON."""
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as e:
        return e.code, dict(e.headers), e.read()
