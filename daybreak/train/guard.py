"""Decides whether a step may touch the weights, and what follows where steps keep failing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.train.trainee import Trainee

MAX_BAD_STEPS = 10
"""After this many refused steps in a row the run returns to its last good checkpoint."""
MAX_ROLLBACKS = 2
"""After this many returns the run ends."""
REMEMBERED = 100
LEAST = 20
"""Losses to go by before one can be called exploding."""


class TrainingError(RuntimeError):
    """The run cannot go on; the message says why and what to try."""


class Guard:
    """Refuses steps whose loss or gradient is not finite, or whose loss explodes: `train.explode` times the largest of
    the last hundred steps. A refused step changes no weight; it is counted, and RUN/bad_steps.jsonl says which samples
    it saw."""

    def __init__(self, config: Config, run: Path, trainee: Trainee) -> None:
        self._config, self._path, self._trainee = config, run / "bad_steps.jsonl", trainee
        self.in_a_row = self.returns = 0
        self._since_return = 0
        self._last: dict[str, Any] = {}

    def accepts(self, loss: float, norm: float) -> bool:
        """Whether the step may be applied."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return False
        known = self._trainee.losses
        return len(known) < LEAST or loss <= self._config.train.explode * max(known)

    def passed(self, loss: float) -> None:
        """Records a step that was applied."""
        self.in_a_row = 0
        self._since_return += 1
        if self._since_return > REMEMBERED:
            self.returns = 0  # that trouble is over
        self._trainee.losses = [*self._trainee.losses[1 - REMEMBERED :], loss]

    def returned(self) -> None:
        """Records a return to a checkpoint."""
        self.in_a_row = self._since_return = 0
        self.returns += 1

    def refused(
        self, loss: float, terms: dict[str, float], norm: float, lr_factor: float, source: Source, batch: int,
        write: bool,
    ) -> str:  # fmt: skip
        """Counts and records a step that was not applied; returns what to say of it."""
        trainee = self._trainee
        self.in_a_row += 1
        trainee.skipped_steps += 1
        finite = math.isfinite(loss) and math.isfinite(norm)
        reason = f"loss {loss:.4g} explodes" if finite else f"loss {loss:.4g}, gradient norm {norm:.4g}: not finite"
        self._last = {
            "step": trainee.step,
            "samples": [trainee.position, trainee.position + batch],
            "reason": reason,
            "lr_factor": lr_factor,
            "terms": {k: repr(v) for k, v in terms.items()},  # JSON has no nan
            "keys": sample_keys(source, trainee.position, batch),
        }
        if write:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._last, ensure_ascii=False) + "\n")
        return f"step {trainee.step}: {reason}; the step was not applied, its samples are listed in {self._path}"

    @property
    def exhausted(self) -> bool:
        """Whether too many steps in a row were refused."""
        return self.in_a_row >= MAX_BAD_STEPS

    def diagnosis(self) -> str:
        """Why the run cannot go on, and what to try."""
        broken = [k for k, v in self._last["terms"].items() if not math.isfinite(float(v))]
        terms = f"; the terms that are not finite: {', '.join(broken)}" if broken else ""
        rolled = f" after {self.returns} returns to a checkpoint" if self.returns else ""
        return (
            f"{MAX_BAD_STEPS} steps in a row without a finite gradient or a sane loss{rolled}, at step "
            f"{self._trainee.step} ({self._last['reason']}{terms}; learning rate at {self._last['lr_factor']:.0%} of "
            f"its base): try {self._trainee.calmer}; {self._path} lists the samples"
        )


def sample_keys(source: Source, position: int, batch: int) -> list[Any]:
    """What the source calls samples `position` to `position + batch - 1`: its own keys, else their numbers."""
    key = getattr(source, "key", None)
    return [key(n) if key is not None else n for n in range(position, position + batch)]
