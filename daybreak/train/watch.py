"""What a run tells while it runs: every step to a JSONL file and TensorBoard, and to whoever displays it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image


@dataclass(frozen=True)
class StepRecord:
    """One step. loss and terms are means over the batch; seconds is the training time so far; progress in [0, 1].

    waiting: the share of the training time since the start or resume that went into waiting for data.
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


@dataclass(frozen=True)
class SampleRecord:
    """Pictures drawn during training. followed: the share of prompts followed, where the data can tell."""

    step: int
    images: int
    seconds: float
    path: str
    followed: float | None


@dataclass(frozen=True)
class MetricsRecord:
    """The recipe's metrics, measured on the averaged weights (evaluate/during_training.py)."""

    step: int
    images: int
    seconds: float
    values: dict[str, float]


class Watcher(Protocol):
    """Is told of a run's events."""

    def on_step(self, record: StepRecord) -> None:
        """After each step."""

    def on_samples(self, record: SampleRecord) -> None:
        """After each sample grid."""

    def on_metrics(self, record: MetricsRecord) -> None:
        """After a measurement."""

    def on_note(self, text: str) -> None:
        """Something the user should read."""


class LogFiles:
    """Writes `log.jsonl` and `tensorboard/` into the run folder; a resumed run goes on in both."""

    def __init__(self, run: Path, resumed_from: int | None) -> None:
        # Imported here: it takes a second that `daybreak --help` need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        path = run / "log.jsonl"
        if resumed_from is not None and path.exists():
            # Steps that were taken after the checkpoint are about to be taken again.
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= resumed_from]
            path.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a" if resumed_from is not None else "w", buffering=1)
        self._board = SummaryWriter(run / "tensorboard", purge_step=resumed_from)

    def on_step(self, record: StepRecord) -> None:
        """One line, and one point per curve."""
        self._file.write(json.dumps({"event": "step", **asdict(record)}) + "\n")
        scalars = {
            "loss/total": record.loss,
            **{f"loss/{k}": v for k, v in record.terms.items()},
            "gradient_norm": record.gradient_norm,
            "lr_factor": record.lr_factor,
            "images_per_second": record.images_per_second,
            "waiting_for_data": record.waiting,
        }
        for name, value in scalars.items():
            self._board.add_scalar(name, value, record.step)

    def on_samples(self, record: SampleRecord) -> None:
        """One line, the picture, and the share of prompts followed."""
        import numpy as np

        self._file.write(json.dumps({"event": "samples", **asdict(record)}) + "\n")
        with Image.open(record.path) as image:
            self._board.add_image("samples", np.asarray(image), record.step, dataformats="HWC")
        if record.followed is not None:
            self._board.add_scalar("prompts_followed", record.followed, record.step)

    def on_metrics(self, record: MetricsRecord) -> None:
        """One line, and one point per metric."""
        self._file.write(json.dumps({"event": "metrics", **asdict(record)}) + "\n")
        for name, value in record.values.items():
            self._board.add_scalar(f"metrics/{name}", value, record.step)

    def on_note(self, text: str) -> None:
        """Notes are for whoever watches."""

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._board.close()
