"""`daybreak tell`."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.run_requests import Kind, answer, ask, waits


def run_tell(console: Console, run: Path, what: Kind, prompts: tuple[str, ...]) -> None:
    """Asks, waits until it is done, and prints what was done. ConfigError where no run trains, or it ended before."""
    request = ask(run, what, prompts, "daybreak tell")
    console.print(f"asked {run}; it answers after the step, or the pictures, it is at ...", markup=False)
    while waits(run, request):
        time.sleep(0.2)
    if (done := answer(run, request)) is None:
        raise ConfigError(f"{run} ended before it came to this: see the end of {run / 'log.jsonl'}")
    console.print(done, markup=False, highlight=False, soft_wrap=True)
