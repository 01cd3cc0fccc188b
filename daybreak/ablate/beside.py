"""A run in a process of its own, seen from within: commands/processes.py starts it and waits for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from daybreak.config import ConfigError
from daybreak.train.guard import TrainingError


def beside_its_command(work: Callable[[], object]) -> int:
    """Does the work: 0 where it is finished, else 2 for a user's mistake and 1 for a run that cannot go on.

    What went wrong is the last line told. The process ends with the command that started it: SIGTERM comes once
    standard input ends, as it does when that is gone.
    """
    threading.Thread(target=_stop_with_standard_input, daemon=True).start()
    try:
        work()
    except (ConfigError, TrainingError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2 if isinstance(e, ConfigError) else 1
    return 0


def _stop_with_standard_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
