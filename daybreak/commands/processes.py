"""A run in a process of its own, beside a command that waits for it; and a folder that one command holds."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from daybreak.config import ConfigError

PATIENCE = 60.0
"""Seconds to wait for the run of a killed command, which saves before it ends."""


def run_process(
    words: Sequence[str], log: Path, lock: int, environment: Mapping[str, str] | None = None
) -> str | None:  # fmt: skip
    """`python -m WORDS` to its end, its output in `log`; None where it finished, else why not.

    The process belongs to no terminal: an interrupt reaches this process alone, which closes the pipe that the run
    reads from, and so does its death. The run holds the folder's lock too, so that no other command comes between.
    environment: variables over this process's.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
            env={**os.environ, **environment} if environment is not None else None,
        )
        assert process.stdin is not None
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.stdin.close()
            process.wait()
            raise
        process.stdin.close()
    if code < 0:
        memory = "; the machine may have run out of memory" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{memory}"
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip().removeprefix("error: ") if lines else f"exit code {code}"
    return None


def hold(console: Console, folder: Path, what: str) -> int:
    """Holds `folder` for this command and its runs; ConfigError where another one keeps it. what: its work."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    deadline, told = time.monotonic() + PATIENCE, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise ConfigError(f"another {what} is at work in {folder}: choose another --out, or end it") from None
            if not told:
                console.print(f"waiting for a run in {folder} to save and end ...", highlight=False, soft_wrap=True)
                told = True
            time.sleep(0.2)
