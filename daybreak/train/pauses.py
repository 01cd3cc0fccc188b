"""What a run does between its steps, while its clock stands: drawing, measuring, saving, and room for its end."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from daybreak import checkpoint_files as folders
from daybreak.allocator import give_back_freed_memory
from daybreak.config import Config
from daybreak.evaluate.measures import METRICS
from daybreak.parallel import Ranks
from daybreak.phases import phase
from daybreak.train.checkpoint import Checkpoints, SaveError
from daybreak.train.clock import Clock
from daybreak.train.deadline import Deadline, end_seconds
from daybreak.train.guard import TrainingError
from daybreak.train.trainee import Samples, Trainee
from daybreak.train.watch import MetricsRecord, SampleRecord, Watcher
from daybreak.train.watchdog import Watchdog

SETTLED = 0.8
"""From this share of the budget on, the moment at which training ends is fixed."""
RETRY_SECONDS = 60.0
"""From a checkpoint that could not be written to the next attempt."""
ROOM_SECONDS, LOOK_SECONDS = 600.0, 2.0
"""The longest that the end of a run waits for room on a full disk, and how often it looks."""


PHASES = {"samples": "drawing samples", "metrics": "measuring", "save": "saving"}
"""What is said of a pause while it lasts, where its name in `durations` does not say it."""


class Pauses:
    """Each pause stops the clock, tells the watchdog, and learns how long its work takes."""

    def __init__(
        self, config: Config, run: Path, trainee: Trainee, clock: Clock, deadline: Deadline, ranks: Ranks,
        watchers: list[Watcher], alarm: Callable[[str, str], None], remark: Callable[[MetricsRecord], None],
    ) -> None:  # fmt: skip
        self._config, self._run, self._trainee, self._ranks = config, run, trainee, ranks
        self._clock, self._deadline, self._watchers = clock, deadline, watchers
        self._alarm, self._remark = alarm, remark
        self.checkpoints = Checkpoints(run, ranks)
        self.watchdog = Watchdog(run, config.train.stall_minutes, ranks.rank, lambda text: alarm("stall", text))
        self._next_save = time.monotonic() + 60 * config.train.save_minutes
        self._measured_at = -1
        self._drawing: deque[float] = deque(maxlen=5)  # seconds of a picture; other work makes some of them longer
        self._keep_room()

    @property
    def save_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() > self._next_save

    @contextmanager
    def working(self, name: str) -> Generator[None]:
        """Something that is no step."""
        running = self._clock.running
        self._clock.pause()
        self.watchdog.alive(self._trainee.step, name)
        began = time.monotonic()
        give_back_freed_memory()
        try:
            with phase(PHASES.get(name, name)):
                yield
        finally:
            give_back_freed_memory()
            self._trainee.durations[name] = time.monotonic() - began
            self._keep_room()
            self.watchdog.alive(self._trainee.step)
            if running:
                self._clock.run()

    def draw(self, asked: Sequence[str] = ()) -> list[str] | None:
        """Draws samples with the averaged weights, and what goes on inside; `asked`: of these prompts too.

        Returns the files of these, else that of the samples; None where they could not be written.
        """
        trainee = self._trainee
        path = self._run / "samples" / f"step-{trainee.step:08d}.png"
        with self.working("samples"):
            drawn, error = Samples(), None
            try:
                drawn = trainee.draw(path, self._ranks, asked)
            except OSError as e:
                error = e
                self._alarm("samples", f"{path} cannot be written: {e.strerror}")
            if self._ranks.agree([], [error is not None])[1][0]:
                return None  # all of them, or none
            self._drawing.append(drawn.seconds)
            trainee.durations["picture"] = min(self._drawing)
        followed = drawn.followed
        if self._ranks.first:
            inside = {name: str(file) for name, file in drawn.inside.items()}
            files = {prompt: str(file) for prompt, file in drawn.asked.items()}
            record = SampleRecord(trainee.step, trainee.position, trainee.seconds, str(path), followed, inside, files)
            with self.working("report"):  # the boards take the pictures, and report.html is written
                for w in self._watchers:
                    w.on_samples(record)
            if drawn.probes:
                self._tell(dict(drawn.probes), "probe")
        if followed is not None and trainee.step and not self._config.evaluate.metrics:
            self._score("prompts followed", followed, "higher")
        return [str(file) for file in drawn.asked.values()] or [str(path)]

    def measure(self) -> None:
        """Measures the recipe's metrics, unless that was just done."""
        trainee = self._trainee
        if self._measured_at == trainee.position:
            return
        self._measured_at = trainee.position
        with self.working("metrics"):
            values = trainee.measure(self._run)
        if self._ranks.first:
            self._tell(values, "metrics")
        name, value = next(iter(values.items()))
        if value is not None:
            self._score(name, value, METRICS[name].better)

    def _tell(self, values: dict[str, float], kind: str) -> None:
        t = self._trainee
        record = MetricsRecord(t.step, t.position, t.seconds, values, kind)
        for w in self._watchers:
            w.on_metrics(record)
        self._remark(record)

    def save(self, wait: bool = False) -> str | None:
        """Begins a checkpoint, and finishes it if told to `wait`. Where it cannot be written, says so, returns why, and
        tries again in a minute."""
        try:
            with self.working("save"):
                self._write(wait)
            self._next_save = time.monotonic() + 60 * self._config.train.save_minutes
            return None
        except SaveError as e:
            self._alarm(
                "checkpoint", f"{e}; earlier checkpoints are untouched, training goes on, next attempt in a minute"
            )
            self._next_save = time.monotonic() + RETRY_SECONDS
            return str(e)

    def save_at_last(self, patient: bool) -> None:
        """The run's last checkpoint. Where the disk is full, waits for room if `patient`; then TrainingError."""
        until = time.monotonic() + min(ROOM_SECONDS, self._deadline.seconds_left())
        told = False
        while True:
            error: SaveError | None = None
            try:
                with self.working("save"):
                    self._write(wait=True)
            except SaveError as e:
                error = e
            _, (failed, lasting) = self._ranks.agree([], [error is not None, error is not None and error.lasting])
            if not failed:
                return
            over = float(not patient or time.monotonic() > until)
            (over,), _ = self._ranks.agree([over], [])
            if over or lasting:
                raise TrainingError(
                    f"{error or 'another rank could not write the checkpoint'}; nothing before it is lost: "
                    f"{'see to that' if lasting else 'make room'}, then {self._trainee.go_on} {self._run}"
                )
            if not told:
                minutes = (until - time.monotonic()) / 60
                self._alarm("checkpoint", f"{error}; the run waits for room, at most {minutes:.0f} minutes")
                told = True
            time.sleep(LOOK_SECONDS)

    def rehearse(self) -> None:
        """Does once what the end of the run will do, so that its length is known: draws, and saves."""
        self.draw()
        self.save()

    def seconds_to_end(self, progress: float) -> float | None:
        """Expected until the run is over: training, and all that comes between and after it, as long as it took so far.

        Until samples were drawn once, what they take is not in it. None before there is anything to go by.
        """
        if self._deadline.end is not None:
            return max(0.0, self._deadline.seconds_left())
        t, train = self._trainee, self._config.train
        training = self._clock.seconds_left(t.step)
        if training is None:
            return None
        steps_left = t.step * (1 - progress) / progress if progress > 0 else 0.0
        every = train.sample_every if train.sample_steps is None else train.sample_steps
        samples = (1 - progress) / every if train.sample_steps is None else steps_left / every
        saves = training / (60 * train.save_minutes) + (steps_left / train.save_steps if train.save_steps else 0)
        prompts, others = t.pictures_at_end()
        if self._config.sample.expand is not None:
            prompts *= 2  # judged as they stand, too
        d = t.durations
        drawing = max(0, math.ceil(samples) - 1) * (d.get("samples", 0.0) + d.get("report", 0.0))
        return training + drawing + int(saves) * d.get("save", 0.0) + end_seconds(d, prompts, others, math.inf)

    def close(self) -> None:
        """Ends what runs beside the loop."""
        self.watchdog.close()
        self.checkpoints.close()

    def _write(self, wait: bool) -> None:
        self.checkpoints.save(self._trainee, wait)
        if self._ranks.first and self._deadline.kept:
            self._deadline.save()

    def _score(self, metric: str, value: float, better: str) -> None:
        """Keeps the checkpoint of this step where its score is the best so far; following no prompt is no score."""
        known = folders.best(self._run)
        sign = 1 if better == "higher" else -1
        comparable = known.get("metric") == metric
        improved = sign * value > sign * known["value"] if comparable else value != 0
        (improved_,), _ = self._ranks.agree([float(improved)], [])
        if not improved_:
            return
        if self._ranks.first:
            folders.mark_best(self._run, self._trainee.step, metric, value)
        self.save()

    def _keep_room(self) -> None:
        """Ends training early enough for what comes after it.

        Near the end this stays as it is, for the learning rate to decay fully; the evaluation is shortened.
        """
        settled = self._trainee.progress > SETTLED and self._clock.end is not None
        if self._deadline.end is not None and not settled:
            total = self._deadline.total_seconds or 0.0
            prompts, others = self._trainee.pictures_at_end()
            self._clock.end = self._deadline.end - end_seconds(self._trainee.durations, prompts, others, total)
