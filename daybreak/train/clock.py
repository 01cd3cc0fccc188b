"""The budget of a run, and how much of it is used."""

from __future__ import annotations

import time

from daybreak.config import TrainConfig


class Clock:
    """Counts training time, not the time in which it is paused, and says how far the run has come.

    `seconds` is what an earlier part of the run has used already.
    """

    def __init__(self, config: TrainConfig, seconds: float = 0.0) -> None:
        self._steps, self._minutes = config.steps, config.minutes
        self._before = seconds
        self._since: float | None = None

    def run(self) -> None:
        """Starts counting, or goes on."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """Stops counting until `run`."""
        self._before, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Training time used so far."""
        return self._before + (time.monotonic() - self._since if self._since is not None else 0.0)

    def progress(self, step: int) -> float:
        """Share of the budget used after `step` steps, in [0, 1]; of time and steps, whichever is further."""
        by_step = step / self._steps if self._steps is not None else 0.0
        by_time = self.seconds / (60 * self._minutes) if self._minutes is not None else 0.0
        return min(1.0, max(by_step, by_time))

    def seconds_left(self, step: int) -> float | None:
        """Expected training time until the end; None before there is anything to go by."""
        progress = self.progress(step)
        return self.seconds * (1 - progress) / progress if progress > 0 else None
