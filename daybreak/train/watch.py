"""What a run tells while it runs: every step to a JSONL file and TensorBoard, and to the displays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from daybreak.files import write_whole
from daybreak.run_requests import Request
from daybreak.train.boards import Board, Boards, TensorBoard

if TYPE_CHECKING:
    from daybreak.data.batch import Skipped, Source  # which need torch; status and compare do not


@dataclass(frozen=True)
class StepRecord:
    """One step. loss and terms are means over the batch; seconds is the training time so far; progress in [0, 1].

    waiting: the share of the training time since the start or resume that went into waiting for data. measured: what
    is not measured at every step, by its name in TensorBoard (meters.py). learning_rates: by optimiser. cost and
    cost_forecast (at the end of the run): USD, where the config knows a price. seconds_left: of training;
    seconds_to_end: until the run is over, with its drawing, saving and judging.
    """

    step: int
    images: int
    seconds: float
    progress: float
    loss: float
    terms: dict[str, float]
    gradient_norm: float
    lr_factor: float
    images_per_second: float
    waiting: float
    seconds_left: float | None
    measured: dict[str, float] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    cost: float | None = None
    cost_forecast: float | None = None
    seconds_to_end: float | None = None


@dataclass(frozen=True)
class SampleRecord:
    """Pictures drawn during training. followed: the share of prompts followed, where the data can tell.

    inside: files of what goes on inside the model, by what they show (evaluate/attention_maps.py). asked: files of what
    someone asked this run to draw, by their prompts (run_requests.py).
    """

    step: int
    images: int
    seconds: float
    path: str
    followed: float | None
    inside: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricsRecord:
    """What was measured of the averaged weights. kind: "metrics" (the recipe's), or "probe" (fine-tuning's)."""

    step: int
    images: int
    seconds: float
    values: dict[str, float]
    kind: str = "metrics"


@dataclass(frozen=True)
class AlarmRecord:
    """What someone should look at. kind: a step that was refused, the trainee's advice, or what else goes wrong."""

    step: int
    alarm: str
    text: str
    kind: Literal["bad_step", "advice", "alarm"] = "alarm"


class Watcher(Protocol):
    """Is told of a run's events."""

    def on_step(self, record: StepRecord) -> None:
        """After each step."""

    def on_samples(self, record: SampleRecord) -> None:
        """After each sample grid."""

    def on_metrics(self, record: MetricsRecord) -> None:
        """After a measurement."""

    def on_alarm(self, record: AlarmRecord) -> None:
        """Something is wrong, or looks so; a note says it too."""

    def on_note(self, text: str) -> None:
        """Something the user should read."""


class LogFiles:
    """Writes `log.jsonl` and `tensorboard/` into the run folder; a resumed run goes on in both.

    `trackers` are given what TensorBoard is given. Where the disk is full, lines wait in memory until there is space;
    `on_trouble` is told once.
    """

    def __init__(
        self, run: Path, resumed_from: int | None, on_trouble: Callable[[str], None] = lambda _: None,
        trackers: Sequence[Board] = (),
    ) -> None:  # fmt: skip
        self._path, self._on_trouble = run / "log.jsonl", on_trouble
        self._waiting: list[str] = []
        self._troubled = False
        if resumed_from is None:
            self._path.unlink(missing_ok=True)
        self.rewind(resumed_from)
        self._boards = Boards([TensorBoard(run, resumed_from), *trackers], on_trouble)

    def rewind(self, step: int | None) -> None:
        """Drops what was logged after `step`, which is about to be done again, and half a line of a killed run."""
        if step is None or not self._path.exists():
            return
        kept = [line for line in self._path.read_text(errors="replace").splitlines() if _step_of(line) <= step]
        write_whole(self._path, "".join(line + "\n" for line in kept))

    def on_begin(self, about: Mapping[str, Any], step: int) -> None:
        """One line for each process that begins the run or goes on with it: what about.py says of it."""
        self._line({"event": "begin", "step": step, **about})

    def on_step(self, record: StepRecord) -> None:
        """One line, and one point per curve."""
        self._line({"event": "step", **asdict(record)})
        cost = {"cost_usd": record.cost, "cost_forecast_usd": record.cost_forecast}
        scalars = {
            "loss/total": record.loss,
            **{f"loss/{k}": v for k, v in record.terms.items()},
            "gradient_norm": record.gradient_norm,
            "lr_factor": record.lr_factor,
            **{f"learning_rate/{k}": v for k, v in record.learning_rates.items()},
            "progress": record.progress,
            "images_per_second": record.images_per_second,
            "waiting_for_data": record.waiting,
            **record.measured,
            **{k: v for k, v in cost.items() if v is not None},
        }
        self._boards.scalars(scalars, record.step)

    def on_settings(self, settings: Mapping[str, Any]) -> None:
        """All settings of the run, for those who look at the boards alone; the run folder has them as a file."""
        self._boards.config(settings)

    def on_score(self, scores: Mapping[str, float], pictures: Mapping[str, Path], step: int) -> None:
        """What the recipe's evaluation found after `step`, the end of the run: one line, points, and its pictures."""
        self._line({"event": "score", "step": step, "values": dict(scores)})
        self._boards.scalars({f"score/{k}": v for k, v in scores.items()}, step)
        for name, path in pictures.items():
            self._boards.picture(name, path, step)

    def on_alarm(self, record: AlarmRecord) -> None:
        """One line, and the text of an advice."""
        told = asdict(record)
        self._line({"event": told.pop("kind"), **told})
        if record.kind == "advice":
            self._boards.text(f"advice/{record.alarm}", record.text, record.step)

    def on_request(self, request: Request, text: str, step: int) -> None:
        """One line: what was asked of the run, by whom, and what it did."""
        self._line({"event": "request", "step": step, **asdict(request), "text": text})

    def on_samples(self, record: SampleRecord) -> None:
        """One line, the pictures, and the share of prompts followed."""
        self._line({"event": "samples", **asdict(record)})
        self._boards.picture("samples", Path(record.path), record.step)
        for name, path in [*record.inside.items(), *(("asked", file) for file in record.asked.values())]:
            self._boards.picture(name, Path(path), record.step)
        if record.followed is not None:
            self._boards.scalars({"prompts_followed": record.followed}, record.step)

    def on_metrics(self, record: MetricsRecord) -> None:
        """One line, and one point per metric."""
        told = asdict(record)
        self._line({"event": told.pop("kind"), **told})
        values = {f"{record.kind}/{k}": v for k, v in record.values.items() if v is not None}
        self._boards.scalars(values, record.step)

    def on_note(self, text: str) -> None:
        """Notes are for displays."""

    def close(self) -> None:
        """Writes what still waits."""
        self._flush()
        self._boards.close()

    def _line(self, content: dict[str, Any]) -> None:
        self._waiting.append(json.dumps(content) + "\n")
        self._flush()

    def _flush(self) -> None:
        """Appends the waiting lines, or what fits of them: a line is there whole or not."""
        try:
            with self._path.open("a") as file:
                before = file.tell()
                try:
                    file.write("".join(self._waiting))
                    file.flush()
                except OSError:
                    os.truncate(self._path, before)
                    raise
            self._waiting.clear()
            self._troubled = False
        except OSError as e:
            self._trouble(f"{self._path} cannot be written: {e.strerror}; its lines wait in memory")

    def _trouble(self, text: str) -> None:
        if not self._troubled:
            self._on_trouble(text)
        self._troubled = True


class SkippedFile:
    """Keeps RUN/skipped.jsonl at what the source has skipped so far, and tells the watchers when it grows."""

    def __init__(self, run: Path, watchers: list[Watcher]) -> None:
        self.path, self.watchers = run / "skipped.jsonl", watchers
        self._source: Source | None = None
        self._written = 0

    def update(self, source: Source) -> None:
        """Writes what is new; a source of another stage lists its own from the start."""
        if source is not self._source:
            self._source, self._written = source, 0
        items: list[Skipped] = getattr(source, "skipped", [])
        if (count := len(items)) == self._written:
            return
        with self.path.open("a" if self._written else "w", encoding="utf-8") as file:
            for item in items[self._written : count]:
                file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
        self._written = count
        for w in self.watchers:
            w.on_note(f"{count} items cannot be used and are skipped; listed in {self.path}")


def _step_of(line: str) -> float:
    """The step that a line of the log belongs to; infinite where it is no whole line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
