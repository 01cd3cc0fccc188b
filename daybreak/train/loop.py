"""A run, from its config to its last checkpoint."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from daybreak import config as configs
from daybreak.caption_words import CAPTIONS, look_at, write_words
from daybreak.config import Config, ConfigError
from daybreak.data.batch import Source
from daybreak.data.changes import changes_since, save_checks
from daybreak.evaluate.during_training import due, measurement_request
from daybreak.files import make_folder
from daybreak.library_messages import FILE, keeper
from daybreak.optim.schedule import learning_rate_factor
from daybreak.parallel import Ranks, pick_device
from daybreak.phases import phase
from daybreak.run_folder import DATA, check_free
from daybreak.train import checkpoint, meters
from daybreak.train.about import about_run
from daybreak.train.asked import Asked
from daybreak.train.checkpoint import SaveError
from daybreak.train.clock import Clock
from daybreak.train.deadline import Deadline, has_deadline, no_time
from daybreak.train.distributed import is_lost_connection
from daybreak.train.guard import MAX_ROLLBACKS, Guard, TrainingError
from daybreak.train.pauses import Pauses
from daybreak.train.pixel import ORDER_SEED, Pixel, open_stage_source
from daybreak.train.stage import Stage
from daybreak.train.step import Step, clip_and_step
from daybreak.train.stop import stop_requested
from daybreak.train.trackers import check_trackers, open_trackers
from daybreak.train.trainee import Trainee
from daybreak.train.watch import AlarmRecord, LogFiles, MetricsRecord, SkippedFile, StepRecord, Watcher


def train(
    config: Config, run: Path, watchers: list[Watcher], resume: bool = False, ranks: Ranks = Ranks(),
    began: float | None = None, data_changed: bool = True,
) -> Pixel:  # fmt: skip
    """Trains `config` in the folder `run` and returns the final state, whose averaged networks are the result.

    A new run needs an absent or empty folder; `resume` goes on from its newest undamaged checkpoint. See `train_on`.
    Raises ConfigError for a wrong config, folder or checkpoint.
    """
    configs.check(config)
    if config.evaluate.metrics:
        measurement_request(config)  # refuses before anything is made
    check_trackers(config.train.trackers, Pixel.asks_for_trackers, ranks.first)
    device = pick_device()
    if resume:
        pixel = checkpoint.resume(run, config, device, ranks, lambda text: _tell_all(watchers, ranks, text))
    else:
        if ranks.first:
            check_free(run)
        with phase("reading the data"):
            source = open_stage_source(config, 0, 0)
        with phase("building the model"):
            pixel = Pixel.create(config, source, device, ranks.mesh)
    train_on(pixel, run, watchers, resume, ranks, began, data_changed)
    return pixel


def train_on(
    trainee: Trainee, run: Path, watchers: list[Watcher], resume: bool = False, ranks: Ranks = Ranks(),
    began: float | None = None, data_changed: bool = True,
) -> None:  # fmt: skip
    """Trains to the end of the budget that `trainee.config` gives, or until SIGINT or SIGTERM, and saves.

    `resume`: the folder's log goes on. `ranks`: the processes that train together. `began`: when the run's command was
    given (seconds since 1970), from which a deadline counts; none: now. Raises ConfigError where a resumed run's data
    are others than before, unless `data_changed`, and TrainingError where it cannot go on.
    """
    config = trainee.config
    watchers = watchers if ranks.first else []

    def note(text: str) -> None:
        _tell_all(watchers, ranks, text)

    source = trainee.open_source(0)
    ranks.wait()  # all have looked at the folder before one writes into it
    if ranks.first:
        make_folder(run, "the run folder")
        keeper.keep_in(run / FILE)
        _look_at_data(source, run, resume, data_changed, note)
        trainee.save_settings(run)
        if not resume and (trainee.knows_others or config.data.source != "scenes"):  # whose captions are known without
            write_words(run, look_at(source.some_captions(CAPTIONS), trainee.knows_others))
    ranks.wait()
    trainee.prepare()
    files = _open_files(trainee, run, resume, note) if ranks.first else None
    parameters, device = trainee.parameter_count(), _name(trainee.device, ranks)
    if files is not None:
        files.on_begin(about_run(parameters, device), trainee.step)
    note(f"{source.describe()}; {parameters / 1e6:.1f} M parameters on {device}")
    training = Training(config, run, source, trainee, watchers, files, ranks, began or time.time())
    try:
        training.run()
    except RuntimeError as e:
        if ranks.world > 1 and is_lost_connection(e):
            raise TrainingError(
                f"rank {ranks.rank} of {ranks.world} waits in vain for another after step {trainee.step} "
                f"({' '.join(str(e).split())[:120]}); torchrun --max-restarts brings them back with --resume auto"
            ) from None
        raise
    finally:
        training.close()


def _tell_all(watchers: list[Watcher], ranks: Ranks, text: str) -> None:
    for w in watchers if ranks.first else []:
        w.on_note(text)


def _look_at_data(
    source: Source, run: Path, resume: bool, data_changed: bool, note: Callable[[str], None]
) -> None:  # fmt: skip
    """Tells what is other in the data of a resumed run than when it was last begun."""
    checks = getattr(source, "checks", None)
    if checks is None:
        return
    if resume and (changes := changes_since(run / DATA, checks)) is not None:
        told = f"the data are not those the run had before ({changes})"
        if not data_changed:
            raise ConfigError(f"{told}: put them back, or go on with what is there now by --data-changed")
        note(f"{told}; it goes on with what is there now")
    save_checks(run / DATA, checks)


def _open_files(trainee: Trainee, run: Path, resume: bool, note: Callable[[str], None]) -> LogFiles:
    """The run's log and boards, told of the config; how long that takes is known to the deadline."""
    trackers = open_trackers(trainee.config.train.trackers, trainee.asks_for_trackers, run, resume, note)
    files = LogFiles(run, trainee.step if resume else None, note, trackers)
    files.on_settings(trainee.plain_settings())
    trainee.durations["boards"] = sum(t.seconds for t in trackers)
    return files


def log_score(
    config: Config, run: Path, step: int, scores: Mapping[str, float], note: Callable[[str], None],
    trainee: type[Trainee] = Pixel, file: str = "score.json",
) -> None:  # fmt: skip
    """Adds the evaluation of a finished run of `step` steps, which lies in RUN/`file`, to its log and boards."""
    try:
        trackers = open_trackers(config.train.trackers, trainee.asks_for_trackers, run, True, lambda _: None)
    except ConfigError as e:  # the figures are in the run folder already, and the report is still to come
        trackers = []
        note(f"{e}; the figures are in {run / file}")
    files = LogFiles(run, step, note, trackers)
    pictures = {name: run / f"{name}.png" for name in ("grid", "failures") if (run / f"{name}.png").exists()}
    files.on_score(scores, pictures, step)
    files.close()


@dataclass(frozen=True)
class Moment:
    """Where the run stands after a step, the same at every rank."""

    progress: float
    seconds: float
    stop: bool
    save: bool
    asked: bool = False


class Training:
    """The loop: steps, and between them what is due (pauses.py)."""

    def __init__(
        self, config: Config, run: Path, source: Source, trainee: Trainee, watchers: list[Watcher],
        files: LogFiles | None, ranks: Ranks, began: float,
    ) -> None:  # fmt: skip
        self.config, self.run_folder, self.trainee, self.ranks, self.files = config, run, trainee, ranks, files
        self.watchers: list[Watcher] = [files, *watchers] if files is not None else watchers
        self.deadline = Deadline(run, config, ranks.world, began)
        self.clock = Clock(config.train, trainee.seconds, trainee.progress)
        self.guard = Guard(config, run, trainee)
        self.pauses = Pauses(
            config, run, trainee, self.clock, self.deadline, ranks, self.watchers, self._alarm, self._remark
        )
        self.asked = Asked(run, ranks, files, self._note)
        self.skipped = SkippedFile(run, watchers) if ranks.first else None
        if self.skipped is not None:
            self.skipped.update(source)
        index = configs.stage_at(config, self.clock.progress(trainee.step))
        self.stage = Stage(trainee, index, ranks, source if index == 0 else None)
        self.step = Step(trainee, ranks, self._note)
        self._waited_before, self._seconds_before, self._speed = 0.0, trainee.seconds, 0.0
        if ranks.first and self.deadline.kept:
            self.deadline.save()
        if self.deadline.went_back:
            self._note(f"the clock went back by {self.deadline.went_back:.0f} s: the deadline goes back with it")

    def run(self) -> None:
        """Takes steps until the budget is used or the run is told to stop, then saves."""
        c, trainee, pauses, run = self.config, self.trainee, self.pauses, self.run_folder
        every = c.train.sample_every if c.train.sample_steps is None else math.inf
        snapshots = c.train.posthoc_snapshots
        with stop_requested() as stop:
            if has_deadline(c.budget):
                pauses.rehearse()
                self._refuse_no_time()
            elif trainee.begins_with_samples and trainee.step == 0:
                pauses.draw()
            self.clock.run()
            now = self._agree(self._look(), stop())
            next_samples = every if math.isinf(every) else (int(now.progress / every) + 1) * every
            next_snapshot = (int(now.progress * snapshots + 1e-9) + 1) / snapshots
            while now.progress < 1 and not now.stop:
                if (index := configs.stage_at(c, now.progress)) != self.stage.index:
                    self._enter_stage(index)
                before = trainee.position
                record = self._step(now.progress)
                here = self._look()
                if record is not None:
                    self._tell(record, here)
                now = self._agree(here, stop())
                pauses.watchdog.alive(trainee.step)
                if self.guard.exhausted:
                    self._roll_back()
                    now = self._agree(self._look(), stop())
                    continue
                by_step = c.train.sample_steps is not None and trainee.step % c.train.sample_steps == 0
                if by_step or now.progress >= next_samples or now.progress >= 1:
                    pauses.draw()
                    next_samples += every
                if self.asked.open and not self.guard.in_a_row:
                    self.asked.obey(pauses, trainee.step)
                if due(self.stage.config, before, trainee.position):
                    pauses.measure()
                if c.train.posthoc_ema and now.progress >= next_snapshot:
                    trainee.snapshot(run, self.ranks)
                    next_snapshot += 1 / snapshots
                if now.save and not self.guard.in_a_row:
                    pauses.save()
            self.clock.pause()
            self.stage.batches.close()
            if now.progress >= 1 and has_deadline(c.budget) and c.evaluate.metrics:
                pauses.measure()
            trainee.seconds, trainee.progress = now.seconds, now.progress
            pauses.save_at_last(patient=not now.stop)
            self.asked.stopped(trainee.step)
        if now.progress < 1:
            self._note(f"stopped at step {trainee.step} and saved; continue with: {trainee.go_on} {self.run_folder}")

    def _refuse_no_time(self) -> None:
        """ConfigError where what comes after training leaves no time for it."""
        over, end = self.clock.end, self.deadline.end
        if self.trainee.step == 0 and over is not None and end is not None and time.monotonic() >= over:
            raise ConfigError(no_time(end - over))

    def close(self) -> None:
        """Ends what runs beside the loop."""
        self.stage.batches.close()
        self.asked.close()
        self.pauses.close()
        if self.files is not None:
            self.files.close()

    def _look(self) -> Moment:
        """Where this rank sees the run; the first rank's view counts."""
        half_a_step = 0.5 * self.stage.config.train.batch / self._speed if self._speed else 0.0
        ending = self.clock.end is not None and time.monotonic() + half_a_step > self.clock.end
        progress = 1.0 if ending else self.clock.progress(self.trainee.step)
        every = self.config.train.save_steps
        by_step = every is not None and self.trainee.step % every == 0 and progress < 1
        return Moment(progress, self.clock.seconds, False, self.pauses.save_due or by_step, self.asked.look())

    def _agree(self, here: Moment, stop: bool) -> Moment:
        """One exchange a step: the first rank's view for all, and whether any rank was told to stop."""
        mine = [here.progress, here.seconds, float(here.save), float(here.asked)]
        (progress, seconds, save, asked), (stop,) = self.ranks.agree(mine, [stop])
        self.trainee.seconds, self.trainee.progress = seconds, progress
        if asked:
            self.asked.share()
        return Moment(progress, seconds, stop or self.asked.stop, bool(save))

    def _step(self, progress: float) -> StepRecord | None:
        """One step; None where it was refused."""
        c, trainee, ranks = self.stage.config, self.trainee, self.ranks
        began = time.monotonic()
        factor = learning_rate_factor(trainee.step, progress, c.optim.warmup_steps, c.optim.decay_share)
        batch = next(self.stage.batches)
        watched = (trainee.step + 1) % c.train.watch_every == 0
        norms = meters.Norms(trainee.trained_modules(), ranks) if watched else None
        mean, terms, levels = self.step.backward(batch, c, progress, watched)
        loss, *values = ranks.mean(torch.stack([mean, *terms.values()])).tolist()
        if norms is not None:
            norms.see_gradients()
        norm, applied = clip_and_step(
            trainee.parameters(), trainee.optimizers, c.optim.clip_norm, factor,
            lambda n: self.guard.accepts(loss, n), trainee.scaler,
        )  # fmt: skip
        named = dict(zip(terms, values, strict=True))
        if applied:
            self.guard.passed(loss)
            trainee.update_averages()
        else:
            reason = self.guard.refused(loss, named, norm, factor, self.stage.source, c.train.batch, ranks.first)
            self._alarm("bad step", reason, trainee.step + 1, "bad_step")
        trainee.step += 1
        trainee.position += c.train.batch
        speed = c.train.batch / (time.monotonic() - began)
        self._speed = speed if self._speed == 0 else 0.95 * self._speed + 0.05 * speed
        if not applied:
            return None
        measured = norms.values() if norms is not None else {}
        if levels is not None:
            measured |= meters.by_noise_level(levels, ranks)
        measured |= trainee.measured(batch, self._speed, ranks, watched)
        return StepRecord(
            step=trainee.step, images=trainee.position, seconds=0.0, progress=progress, loss=loss, terms=named,
            gradient_norm=norm, lr_factor=factor, images_per_second=self._speed, waiting=0.0, seconds_left=None,
            measured=measured,
            learning_rates=trainee.learning_rates(),
        )  # fmt: skip

    def _enter_stage(self, index: int) -> None:
        """Changes over to another stage of the config."""
        with self.pauses.working("the next stage"):
            self.stage.batches.close()
            self._waited_before += self.stage.batches.waited_seconds
            self.stage = Stage(self.trainee, index, self.ranks)
            self._speed = 0.0
            self.trainee.losses.clear()  # another resolution has other losses
        c = self.stage.config
        self._note(f"stage {index + 1} of {len(self.config.stages)}: {c.data.resolution} px, batch {c.train.batch}")
        if has_deadline(c.budget):
            self.pauses.draw()  # takes another time here

    def _roll_back(self) -> None:
        """Returns to the last good checkpoint, with the data in another order; TrainingError where that is no use."""
        trainee, run = self.trainee, self.run_folder
        try:
            self.pauses.checkpoints.finish()
            folder = checkpoint.newest_good(run, self._note, skip=self.guard.returns)
        except (ConfigError, SaveError):
            raise TrainingError(self.guard.diagnosis()) from None
        if self.guard.returns >= MAX_ROLLBACKS:
            raise TrainingError(self.guard.diagnosis())
        with self.pauses.working("the return to a checkpoint"):
            rollbacks, skipped, was = trainee.rollbacks + 1, trainee.skipped_steps, trainee.step
            checkpoint.roll_back(trainee, folder)
            trainee.rollbacks, trainee.skipped_steps = rollbacks, skipped
            trainee.generator.manual_seed(self.config.train.seed + ORDER_SEED * rollbacks + trainee.step)
            self.guard.returned()
            self.stage.batches.close()
            index = configs.stage_at(self.config, self.clock.progress(trainee.step))
            self.stage = Stage(trainee, index, self.ranks)
            if self.files is not None:
                self.files.rewind(trainee.step)
        self._alarm("rollback", f"from step {was} back to {folder.name}; the data come in another order from here")

    def _tell(self, record: StepRecord, now: Moment) -> None:
        """Tells the watchers of a step."""
        if not self.ranks.first:
            return
        trained = max(1e-9, now.seconds - self._seconds_before)
        cost = self.deadline.cost()
        record = dataclasses.replace(
            record, seconds=now.seconds, progress=now.progress, seconds_left=self.clock.seconds_left(record.step),
            seconds_to_end=self.pauses.seconds_to_end(now.progress),
            waiting=(self._waited_before + self.stage.batches.waited_seconds) / trained, cost=cost,
            cost_forecast=self.deadline.forecast(now.progress) if cost is not None else None,
        )  # fmt: skip
        for w in self.watchers:
            w.on_step(record)
        self._remark(record)
        if self.skipped is not None:
            self.skipped.update(self.stage.source)

    def _remark(self, record: StepRecord | MetricsRecord) -> None:
        for name, text in self.trainee.remarks(record):
            self._alarm(name, text, record.step, "advice")

    def _alarm(
        self, name: str, text: str, step: int | None = None, kind: Literal["bad_step", "advice", "alarm"] = "alarm"
    ) -> None:  # fmt: skip
        step = self.trainee.step if step is None else step
        self._note(f"advice, step {step}: {text}" if kind == "advice" else text)
        for w in self.watchers:
            w.on_alarm(AlarmRecord(step, name, text, kind))

    def _note(self, text: str) -> None:
        _tell_all(self.watchers, self.ranks, text)


def _name(device: torch.device, ranks: Ranks) -> str:
    many = f"{ranks.world} x " if ranks.world > 1 else ""
    if device.type == "cuda":
        return many + torch.cuda.get_device_name(device)
    return f"{many}{torch.get_num_threads()} CPU cores"
