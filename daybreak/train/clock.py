"""The budget of a run, and how much of it is used."""

from __future__ import annotations

import time

from daybreak.config import TrainConfig


class Clock:
    """Counts training time, not the time in which it is paused, and says how far the run has come.

    `seconds` and `share` are what an earlier part of the run has used already. `end`: the moment (monotonic) at which
    training has to be over. The share of the budget used then grows while training runs such that it would reach 1 at
    that moment; time in which it is paused, or crashed, makes the rest go faster, and nothing jumps.
    """

    def __init__(self, config: TrainConfig, seconds: float = 0.0, share: float = 0.0, end: float | None = None) -> None:
        self._steps, self._minutes = config.steps, config.minutes
        self._before = seconds
        self._since: float | None = None
        self._share, self._shared_until = share, 0.0
        self.end = end

    def run(self) -> None:
        """Starts counting, or goes on."""
        self._since = self._shared_until = time.monotonic()

    def pause(self) -> None:
        """Stops counting until `run`."""
        self._advance()
        self._before, self._since = self.seconds, None

    @property
    def running(self) -> bool:
        """Whether it counts now."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """Training time used so far."""
        return self._before + (time.monotonic() - self._since if self._since is not None else 0.0)

    def progress(self, step: int) -> float:
        """Share of the budget used after `step` steps, in [0, 1]; of time and steps, whichever is further."""
        self._advance()
        by_step = step / self._steps if self._steps is not None else 0.0
        by_time = self.seconds / (60 * self._minutes) if self._minutes is not None else 0.0
        return min(1.0, max(by_step, by_time, self._share if self.end is not None else 0.0))

    def seconds_left(self, step: int) -> float | None:
        """Expected training time until the end; None before there is anything to go by."""
        if self.end is not None:
            return max(0.0, self.end - time.monotonic())
        progress = self.progress(step)
        return self.seconds * (1 - progress) / progress if progress > 0 else None

    def _advance(self) -> None:
        """Brings the share up to now."""
        if self.end is None or self._since is None:
            return
        now = time.monotonic()
        left = self.end - self._shared_until
        used = (now - self._shared_until) / left if left > 0 else 1.0
        self._share += (1 - self._share) * min(1.0, used)
        self._shared_until = now
