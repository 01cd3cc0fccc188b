"""Ends a run that stands still, in place of paying for it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

STALL_EXIT = 75
"""Exit code of a run that stood still (EX_TEMPFAIL: trying again may help)."""
PATIENCE = 4.0
"""Work that is no step (compiling, drawing, measuring, saving) may take this many times longer."""
GRACE_SECONDS = 30.0


class Watchdog:
    """Once no step has ended for `minutes`, writes every thread's stack to RUN/stalls and ends the process.

    A thread watches, and `tell`s before the end; should the interpreter itself be stuck, faulthandler's own timer does
    the same a little later, without a word.
    """

    def __init__(self, run: Path, minutes: float, rank: int, tell: Callable[[str], None]) -> None:
        self._run, self._seconds, self._rank, self._tell = run, 60 * minutes, rank, tell
        self._limit, self._doing, self._step = self._seconds, "starting", 0
        self._since = time.monotonic()
        self._closed = threading.Event()
        (run / "stalls").mkdir(parents=True, exist_ok=True)
        self._path = run / "stalls" / f"rank-{rank:04d}.txt"
        self._file = self._path.open("a")
        self.alive(0, "the first step")
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def alive(self, step: int, doing: str | None = None) -> None:
        """Something ended. doing: what begins now, where it is no step and may take longer."""
        self._step, self._doing = step, doing or "a step"
        self._limit = self._seconds * (PATIENCE if doing else 1.0)
        self._since = time.monotonic()
        faulthandler.dump_traceback_later(self._limit + GRACE_SECONDS, exit=True, file=self._file)

    def close(self) -> None:
        """Stops watching; nothing is left where nothing was written."""
        self._closed.set()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        if self._path.exists() and self._path.stat().st_size == 0:
            self._path.unlink()
            with contextlib.suppress(OSError):  # other ranks' files are there still
                self._path.parent.rmdir()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 10)):
            if time.monotonic() - self._since > self._limit:
                break
        if self._closed.is_set():
            return
        self._file.write(f"rank {self._rank}, after step {self._step}: {self._doing} for {self._limit / 60:.3g} min\n")
        self._file.flush()
        faulthandler.dump_traceback(self._file, all_threads=True)
        self._file.flush()
        stalled = (
            f"{self._doing} after step {self._step} has not ended for {self._limit / 60:.3g} minutes; every thread's "
            f"stack is in {self._path}"
        )
        print(f"error: {stalled}; continue with: daybreak train --resume {self._run}", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):  # whatever it meets, the run ends
            self._tell(stalled)
        os._exit(STALL_EXIT)
