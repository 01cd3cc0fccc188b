"""The moment by which a run is over, and what it costs until then.

The moment stands in RUN/deadline.json as a point of the wall clock, so that time lost in crashes counts. Within a
process time is measured by the monotonic clock, which no adjustment of the wall clock moves.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daybreak.config import BudgetConfig, Config
from daybreak.files import write_whole

FILE = "deadline.json"
MARGIN, MOST_MARGIN = 0.05, 0.005
"""Kept beside what the end is expected to take: a share of that, at most so much of the whole run's time."""
DRIFT = 0.2
"""By such a share drawing may turn out faster than it was while the run trained, in smaller batches (measured: 0.13).

In a short run that would end it too early by seconds, so that much is not kept there: where the end takes as long as
expected, or longer, the evaluation draws fewer pictures.
"""
EVALUATION_SHARE = 0.2
"""The most of the run's time that is kept for its evaluation, which is made smaller where it would take longer."""
DECAY_SHARE = 0.2
"""Of a recipe without decay, under a deadline."""
JUDGING_SHARE = 0.1
"""Of the time that drawing a picture takes (measured: 0.08 with the grids)."""
EXIT_SECONDS = 1.5
"""For the last report, and for Python to end (measured: 0.6)."""


def limited(config: Config, limits: BudgetConfig) -> tuple[Config, str | None]:
    """`config` with what --deadline, --budget, --price and --gpus say, and a note where they change more than the end.

    A deadline takes the place of the recipe's own steps or minutes; settings that follow can bring them back.
    """
    given: dict[str, Any] = {name: value for name, value in asdict(limits).items() if value is not None}
    config = dataclasses.replace(config, budget=dataclasses.replace(config.budget, **given))
    if limits.hours is None and limits.usd is None:
        return config, None
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=None, minutes=None))
    if config.optim.decay_share:
        return config, None
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, decay_share=DECAY_SHARE))
    return config, (
        f"optim.decay_share is {DECAY_SHARE:g}, so that the run ends with a decayed model; --optim.decay_share 0 keeps "
        "the recipe's constant rate"
    )


class Deadline:
    """When a run ends and what it has cost. `end`: on this process's monotonic clock; None: no such moment.

    Opened anew by every process of a run; the first one that is told another budget than the file holds sets a new
    moment, counted from then on.
    """

    def __init__(self, run: Path, config: Config, world: int, began: float) -> None:
        b = config.budget
        self._path, self._budget, self._price = run / FILE, b, b.price
        self._gpus = b.gpus or world
        now, mono = time.time(), time.monotonic()
        stored: dict[str, Any] = self._read()
        if stored.get("budget") != asdict(b):
            end = began + 3600 * b.hours if b.hours is not None else None
            spent = stored.get("spent_usd", 0.0)
            stored = {"started": began, "end": end, "spent_usd": spent, "counted": began, "seen": now, "gpus": 0}
        self._started: float = stored["started"]
        # A wall clock that went back would give the run time it does not have; it stood still since it was last seen.
        self.went_back = max(0.0, stored["seen"] - now)
        shift = self.went_back
        self._offset = now + shift - mono  # monotonic + offset is the run's wall time
        gpus_before = stored["gpus"] or self._gpus
        self._spent = stored["spent_usd"] + self._cost(now + shift - stored["counted"], gpus_before)
        self._counted = now + shift
        ends = [stored["end"]] if stored["end"] is not None else []
        self._hours_end: float | None = stored["end"]
        if b.usd is not None and self._price is not None:
            ends.append(self._counted + 3600 * (b.usd - self._spent) / (self._price * self._gpus))
        self.end: float | None = min(ends) - self._offset if ends else None

    @property
    def total_seconds(self) -> float | None:
        """From the start of the run to its deadline."""
        return None if self.end is None else self.end + self._offset - self._started

    def seconds_left(self) -> float:
        """Until the deadline; infinite where there is none."""
        return float("inf") if self.end is None else self.end - time.monotonic()

    def cost(self) -> float | None:
        """USD so far, downtime included; None without a price."""
        if self._price is None:
            return None
        return self._spent + self._cost(time.monotonic() + self._offset - self._counted, self._gpus)

    def forecast(self, progress: float) -> float | None:
        """USD at the end of the run, when the share `progress` of its budget is used; None without a price."""
        cost = self.cost()
        if cost is None or self._price is None:
            return None
        if self.end is not None:
            return cost + self._cost(max(0.0, self.seconds_left()), self._gpus)
        return cost / progress if progress > 0 else None

    @property
    def kept(self) -> bool:
        """Whether there is anything to keep: a moment or a price."""
        return self.end is not None or self._price is not None

    def save(self) -> None:
        """Keeps the moment and the cost in the run folder."""
        now = time.monotonic() + self._offset
        content = {
            "budget": asdict(self._budget),
            "started": self._started,
            "end": self._hours_end,
            "spent_usd": self.cost() or 0.0,
            "counted": now,
            "seen": now,
            "gpus": self._gpus,
        }
        write_whole(self._path, json.dumps(content, indent=1))

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._path.read_text()))
        except (OSError, ValueError):
            return {}

    def _cost(self, seconds: float, gpus: int) -> float:
        return (self._price or 0.0) * gpus * seconds / 3600


def end_seconds(durations: dict[str, float], prompts: int, others: int, total_seconds: float) -> float:
    """What is kept for the end of a run of `total_seconds`: last samples, last checkpoint, evaluation, as measured.

    durations: seconds of "save", "samples", "report" (telling of them) and "picture" (one drawn), as the run has learnt
    them. prompts: how many the evaluation draws, or fewer where time is short. others: pictures that are drawn in any
    case, for metrics.
    """
    d = durations
    picture, most = d.get("picture", 0.0), EVALUATION_SHARE * total_seconds
    evaluation = max(others * picture, min((prompts + others) * picture, most))
    work = d.get("save", 0.0) + d.get("samples", 0.0) + d.get("report", 0.0) + evaluation
    beside = min(MARGIN * work, MOST_MARGIN * total_seconds - DRIFT * min(prompts * picture, most))
    return work + beside + afterwards(d, prompts + others)


def afterwards(durations: dict[str, float], pictures: int) -> float:
    """What comes after the last of an evaluation's pictures is drawn, seconds: judging them, grids, report, exit.

    Trackers are opened once more for the score.
    """
    judging = JUDGING_SHARE * pictures * durations.get("picture", 0.0)
    return judging + durations.get("samples", 0.0) / 4 + durations.get("boards", 0.0) + EXIT_SECONDS


def no_time(seconds: float) -> str:
    """What is wrong with a deadline of which what comes after training takes all."""
    return (
        f"--deadline leaves no time to train: what comes after it, pictures and their judging, takes about "
        f"{seconds:.0f} s here; give more time, or have fewer pictures"
    )


def evaluation_prompts(config: Config) -> int:
    """How many prompts the evaluation at the end of a run draws where there is time."""
    e = config.evaluate
    return 6 * e.prompts_per_task + e.held_out_prompts if config.data.source == "scenes" else 0


def metrics_pictures(config: Config) -> int:
    """How many pictures the recipe's metrics take, which are measured once more at the end of training."""
    return config.evaluate.metrics_count if config.evaluate.metrics else 0


def has_deadline(budget: BudgetConfig) -> bool:
    """Whether a moment of the wall clock ends the run."""
    return budget.hours is not None or budget.usd is not None
