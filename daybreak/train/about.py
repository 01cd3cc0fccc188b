"""What a reader of a run must know of how it was begun: the command, the device, the version and the commit."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from daybreak import __version__

GIT_SECONDS = 5.0
"""git answers in milliseconds; a disk that is away must not hold up a run."""


def about_run(parameters: int, device: str) -> dict[str, Any]:
    """Plain values for the log's line `begin`. parameters: numbers that are trained; device: in words."""
    return {
        "time": time.time(),
        "command": shlex.join([Path(sys.argv[0]).stem.replace("__main__", "daybreak"), *sys.argv[1:]]),
        "device": device,
        "parameters": parameters,
        "version": __version__,
        "commit": commit(),
    }


def commit() -> str:
    """The commit of this package, with -dirty where files differ from it; empty where it is no checkout of git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
        return done.stdout.strip()
    return ""
