"""Ending a run from outside: SIGINT and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stop_requested() -> Generator[Callable[[], bool]]:
    """Catches SIGINT and SIGTERM; yields a function that says whether one came. A second one kills as usual."""
    came = False
    previous: dict[int, Any] = {}

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(number, previous[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        previous[number] = signal.signal(number, on_signal)
    try:
        yield lambda: came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
