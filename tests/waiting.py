"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LONG = 900.0
"""Seconds after which something is taken to be lost: far above what it takes on the slowest machine. Nothing waits for
it where all is well."""


def wait_until(found: Callable[[], T], what: str = "") -> T:
    """What `found` gives, once that is true. It may raise where it knows that this will never be."""
    end = time.monotonic() + LONG
    while not (value := found()):
        assert time.monotonic() < end, f"not within {LONG:.0f} s: {what or found}"
        time.sleep(0.02)
    return value
