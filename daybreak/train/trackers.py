"""Weights & Biases and MLflow beside TensorBoard, where `train.trackers`, or `finetune --tracker`, asks for them.

Which run of theirs belongs to a run folder stands in RUN/trackers.json, so that a resumed run goes on in the same one.
Where they keep it is said as their users are used to: by WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE, MLFLOW_TRACKING_URI,
MLFLOW_EXPERIMENT_NAME.
"""

from __future__ import annotations

import html
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.files import write_whole
from daybreak.train.boards import Board

FILE = "trackers.json"
PROJECT = "daybreak"
"""The project, or experiment, where the environment names none."""
SEND_SECONDS = 5.0
"""Seconds whose points are sent to MLflow at once."""
POINTS_AT_ONCE, SETTINGS_AT_ONCE = 1000, 100
"""The most that MLflow takes in one request."""
CLOSE_SECONDS = 60.0
"""How long the end of a run waits for what MLflow has not received yet."""


class Tracker(Board, Protocol):
    """known: what RUN/trackers.json keeps of it. where: for the user. seconds: what opening it once more takes."""

    known: dict[str, str]
    where: str
    seconds: float


def check_trackers(names: Sequence[str], asked: str, first: bool) -> None:
    """Refuses a tracker whose package is missing, or that has no account to write to, before anything is made.

    `asked`: what asks for it, up to its name. `first`: whether this process is the one that will write to it.
    """
    for name in names:
        module = require(name, name, f"{asked}{name}")
        if first and name == "wandb" and module.setup().settings.mode not in ("offline", "disabled", "dryrun"):
            try:
                known = module.login(prompt=False)
            except module.errors.UsageError:
                known = False
            if not known:
                raise ConfigError(
                    f"{asked}wandb: this machine has no key to Weights & Biases; run `wandb login`, set "
                    "WANDB_API_KEY, or set WANDB_MODE=offline to keep the run in its folder for `wandb sync`"
                )


def open_trackers(
    names: Sequence[str], asked: str, run: Path, resume: bool, note: Callable[[str], None]
) -> list[Tracker]:
    """The trackers of these names; those of a resumed run go on where they were.

    `asked`: what asks for them, up to the name. Raises ConfigError where one cannot be opened.
    """
    path = run / FILE
    known: dict[str, dict[str, str]] = json.loads(path.read_text()) if resume and path.exists() else {}
    boards: list[Tracker] = []
    for name in names:
        try:
            board = OPENERS[name](run, known.get(name))
        except ConfigError:
            raise
        except Exception as e:  # whatever a tracker's library raises: a missing server, a wrong key, a full disk
            raise ConfigError(f"{asked}{name} cannot be opened: {' '.join(str(e).split())[:300]}") from None
        known[name] = board.known
        boards.append(board)
        note(f"{board.name}: {board.where}")
    if boards:
        write_whole(path, json.dumps(known, indent=1) + "\n")
    return boards


class WeightsAndBiases:
    """A run of Weights & Biases."""

    name = "Weights & Biases"

    def __init__(self, run: Path, known: dict[str, str] | None) -> None:
        import wandb

        self._image, self._html = wandb.Image, wandb.Html
        began = time.monotonic()
        self.known = known or {"id": uuid.uuid4().hex[:12]}
        self._run: Any = wandb.init(
            id=self.known["id"],
            resume="allow",
            project=None if "WANDB_PROJECT" in os.environ else PROJECT,
            name=run.resolve().name,
            dir=run,
            # Its own lines and its copy of the terminal would break the live display.
            settings=wandb.Settings(silent=True, console="off"),
        )
        # A curve's own step, since a run that went back to a checkpoint takes some steps twice.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self.seconds = time.monotonic() - began
        offline = f"offline; send it with: wandb sync {run / 'wandb'}/offline-run-*"
        self.where = offline if self._run.offline else str(self._run.url)

    def config(self, settings: Mapping[str, Any]) -> None:
        """As the run's config."""
        self._run.config.update(dict(settings), allow_val_change=True)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        self._run.log({"step": step, **values})

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Board`."""
        self._run.log({"step": step, name: self._image(str(path))})

    def text(self, name: str, text: str, step: int) -> None:
        """See `Board`."""
        self._run.log({"step": step, name: self._html(html.escape(text))})

    def close(self) -> None:
        """See `Board`."""
        self._run.finish()


class MLflow:
    """A run of MLflow, written by a thread of its own, so that no step waits for a server."""

    name = "MLflow"

    def __init__(self, run: Path, known: dict[str, str] | None) -> None:
        import mlflow
        from mlflow.entities import Metric, Param

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # its lines would break the live display
        self._metric, self._param = Metric, Param
        uri = mlflow.get_tracking_uri() if known is None or "MLFLOW_TRACKING_URI" in os.environ else known["uri"]
        self._client: Any = mlflow.MlflowClient(tracking_uri=uri)
        self._client.search_experiments(max_results=1)  # opens the store: that is slow, and once for all
        began = time.monotonic()
        self._new = known is None
        if known is None:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(title)
            number = experiment.experiment_id if experiment else self._client.create_experiment(title)
            self._id = self._client.create_run(number, run_name=run.resolve().name).info.run_id
        else:
            self._id = known["run"]
            try:
                self._client.update_run(self._id, status="RUNNING")
            except mlflow.exceptions.MlflowException as e:
                raise ConfigError(
                    f"MLflow: {uri} has no run {self._id} to go on with "
                    f"({' '.join(str(e).split())[:120]}); set MLFLOW_TRACKING_URI to where it is, or delete "
                    f"{run / FILE} to begin another"
                ) from None
        self.seconds = time.monotonic() - began
        self.known = {"run": self._id, "uri": uri}
        self.where = f"run {self._id} at {uri}"
        self._points: list[Any] = []
        self._sent_at = time.monotonic()
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def config(self, settings: Mapping[str, Any]) -> None:
        """As parameters, which MLflow never changes; as the file config.yaml with what a resumed run has changed."""
        self._send(lambda: self._client.log_dict(self._id, dict(settings), "config.yaml"))
        if self._new:
            named = [self._param(k, v) for k, v in flat(settings).items()]
            for start in range(0, len(named), SETTINGS_AT_ONCE):
                part = named[start : start + SETTINGS_AT_ONCE]
                self._send(partial(self._client.log_batch, self._id, params=part))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        now = int(1000 * time.time())
        self._points += [self._metric(name, value, now, step) for name, value in values.items()]
        if time.monotonic() - self._sent_at > SEND_SECONDS or len(self._points) >= POINTS_AT_ONCE:
            self._send_points()

    def picture(self, name: str, path: Path, step: int) -> None:
        """See `Board`."""
        with Image.open(path) as image:
            image.load()
        self._send(lambda: self._client.log_image(self._id, image, key=name, step=step))

    def text(self, name: str, text: str, step: int) -> None:
        """As a file of its own."""
        self._send(lambda: self._client.log_text(self._id, text, f"{name}-step-{step:08d}.txt"))

    def close(self) -> None:
        """See `Board`. Raises RuntimeError where MLflow takes too long."""
        self._send_points()
        self._send(lambda: self._client.set_terminated(self._id))
        self._work.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"no answer for {CLOSE_SECONDS:.0f} s")
        if self._error is not None:
            raise self._error

    def _send_points(self) -> None:
        points, self._points, self._sent_at = self._points, [], time.monotonic()
        for start in range(0, len(points), POINTS_AT_ONCE):
            part = points[start : start + POINTS_AT_ONCE]
            self._send(partial(self._client.log_batch, self._id, metrics=part))

    def _send(self, work: Callable[[], None]) -> None:
        if self._error is not None:
            raise self._error
        self._work.put(work)

    def _send_all(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                if self._error is None:
                    work()
            except Exception as e:  # told by the next call
                self._error = e


OPENERS: dict[str, Callable[[Path, dict[str, str] | None], Tracker]] = {"wandb": WeightsAndBiases, "mlflow": MLflow}


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """{"train": {"batch": 8}} -> {"train.batch": "8"}; stages by their number."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        parts = dict(enumerate(value)) if name == "stages" else value
        if isinstance(parts, Mapping):
            found |= {f"{name}.{k}": v for k, v in flat({str(k): v for k, v in parts.items()}).items()}
        else:
            found[name] = str(value)
    return found
