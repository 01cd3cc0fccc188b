"""Programs in processes of their own, whose words are read while they run."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import fork_server
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]


@contextmanager
def started(words: list[object], cwd: Path | None = None, **variables: str) -> Iterator["Program"]:
    """A process with this code on its path and `variables` in its environment; ended with its children at the end."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [str(word) for word in words], env=os.environ | {"PYTHONPATH": paths} | variables, cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
    reader.start()
    try:
        yield Program(process, lines)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader.join()


def children(pid: int) -> list[int]:
    """The programs that a process has started and that still run."""
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid=,comm="], capture_output=True, text=True, check=False)
    named = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return [int(pid) for pid, name in named if name != fork_server.NAME]


class Program:
    """A process, and what it said so far."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process, self.lines = process, lines

    def check(self) -> None:
        """Fails, with what it said, where it has ended."""
        assert self.process.poll() is None, "".join(self.lines)

    def url(self, pattern: str = r"(http://\S+:\d+)") -> str:
        """The address that it says it listens at, once it does."""

        def found() -> re.Match[str] | None:
            self.check()
            return re.search(pattern, "".join(self.lines))

        return wait_until(found, "the address")[1]
