"""A run, from its config to its last checkpoint."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.config.files import plain
from daybreak.data.batch import Source
from daybreak.data.changes import changes_since, save_checks
from daybreak.evaluate.during_training import due, measurement_request
from daybreak.files import make_folder
from daybreak.optim.schedule import learning_rate_factor
from daybreak.parallel import pick_device
from daybreak.run_folder import DATA, check_free
from daybreak.train import checkpoint, meters
from daybreak.train.allocator import keep_freed_memory
from daybreak.train.checkpoint import SaveError
from daybreak.train.clock import Clock
from daybreak.train.deadline import Deadline, has_deadline
from daybreak.train.distributed import Processes, is_lost_connection
from daybreak.train.ema import update_average
from daybreak.train.guard import MAX_ROLLBACKS, Guard, TrainingError
from daybreak.train.pauses import Pauses
from daybreak.train.precision import lower_precision
from daybreak.train.stage import ORDER_SEED, Stage, open_stage_source
from daybreak.train.state import TrainState
from daybreak.train.step import NoiseLevels, StepRandomness, backward, clip_and_step
from daybreak.train.stop import stop_requested
from daybreak.train.trackers import check_trackers, open_trackers
from daybreak.train.watch import LogFiles, SkippedFile, StepRecord, Watcher

TRACKERS = "train.trackers="
"""How a tracker is asked for."""


def train(
    config: Config, run: Path, watchers: list[Watcher], resume: bool = False, ranks: Processes = Processes(),
    began: float | None = None,
) -> TrainState:  # fmt: skip
    """Trains `config` in the folder `run` and returns the final state, whose averaged networks are the result.

    A new run needs an absent or empty folder; `resume` goes on from its newest undamaged checkpoint. `ranks`: the
    processes that train together. `began`: when the run's command was given (seconds since 1970), from which a
    deadline counts; none: now. SIGINT and SIGTERM end the run after the step under way, with a checkpoint. Raises
    ConfigError for a wrong config, folder or checkpoint, and TrainingError where it cannot go on.
    """
    configs.check(config)
    if config.evaluate.metrics:
        measurement_request(config)  # refuses before anything is made
    check_trackers(config.train.trackers, TRACKERS, ranks.first)
    device = pick_device()
    watchers = watchers if ranks.first else []
    if ranks.first and not resume:
        check_free(run)

    def note(text: str) -> None:
        for w in watchers:
            w.on_note(text)

    if resume:
        state = checkpoint.resume(run, config, device, ranks, note)
        source = open_stage_source(config, 0, state.rollbacks)
    else:
        source = open_stage_source(config, 0, 0)
        state = TrainState.create(config, source, device, ranks.mesh)
    ranks.wait()  # all have looked at the folder before one writes into it
    if ranks.first:
        make_folder(run, "the run folder")
        configs.save(config, run / "config.yaml")
        _look_at_data(source, run, resume, note)
    ranks.wait()
    _prepare(state, config)
    files = _open_files(config, run, state, resume, note) if ranks.first else None
    note(f"{source.describe()}; {state.parameter_count() / 1e6:.1f} M parameters on {_name(device, ranks)}")
    training = Training(config, run, source, state, watchers, files, ranks, began or time.time())
    try:
        training.run()
    except RuntimeError as e:
        if ranks.world > 1 and is_lost_connection(e):
            raise TrainingError(
                f"rank {ranks.rank} of {ranks.world} waits in vain for another after step {state.step} "
                f"({' '.join(str(e).split())[:120]}); torchrun --max-restarts brings them back with --resume auto"
            ) from None
        raise
    finally:
        training.close()
    return state


def _look_at_data(source: Source, run: Path, resume: bool, note: Callable[[str], None]) -> None:
    """Tells what is other in the data of a resumed run than when it was last begun."""
    checks = getattr(source, "checks", None)
    if checks is None:
        return
    if resume and (changes := changes_since(run / DATA, checks)) is not None:
        note(f"the data are not those the run had before ({changes}); it goes on with what is there now")
    save_checks(run / DATA, checks)


def _open_files(config: Config, run: Path, state: TrainState, resume: bool, note: Callable[[str], None]) -> LogFiles:
    """The run's log and boards, told of the config; how long that takes is known to the deadline."""
    trackers = open_trackers(config.train.trackers, TRACKERS, run, resume, note)
    files = LogFiles(run, state.step if resume else None, note, trackers)
    files.on_settings(plain(config))
    state.durations["boards"] = sum(t.seconds for t in trackers)
    return files


def log_score(config: Config, run: Path, step: int, scores: Mapping[str, float], note: Callable[[str], None]) -> None:
    """Adds the evaluation of a finished run of `step` steps, with the pictures it left, to its log and boards."""
    try:
        trackers = open_trackers(config.train.trackers, TRACKERS, run, True, lambda _: None)
    except ConfigError as e:  # the figures are in the run folder already, and the report is still to come
        trackers = []
        note(f"{e}; the score is in {run / 'score.json'}")
    files = LogFiles(run, step, note, trackers)
    pictures = {name: run / f"{name}.png" for name in ("grid", "failures") if (run / f"{name}.png").exists()}
    files.on_score(scores, pictures, step)
    files.close()


def _prepare(state: TrainState, config: Config) -> None:
    """What makes the networks fast and changes nothing about them: frozen ones in bfloat16, compilation."""
    if state.device.type == "cpu":
        keep_freed_memory()
    if lower_precision(config, state.device):
        state.objective.to_frozen_dtype(torch.bfloat16)
    if config.train.compile:
        whole = None if state.sharded else state.transformer  # a sharded one's blocks are compiled already
        for network in (whole, state.objective.teacher, state.objective.dino, state.objective.lpips):
            if network is not None:
                network.compile()


@dataclass(frozen=True)
class Moment:
    """Where the run stands after a step, the same at every rank."""

    progress: float
    seconds: float
    stop: bool
    save: bool


class Training:
    """The loop: steps, and between them what is due (pauses.py)."""

    def __init__(
        self, config: Config, run: Path, source: Source, state: TrainState, watchers: list[Watcher],
        files: LogFiles | None, ranks: Processes, began: float,
    ) -> None:  # fmt: skip
        self.config, self.run_folder, self.state, self.ranks, self.files = config, run, state, ranks, files
        self.watchers: list[Watcher] = [files, *watchers] if files is not None else watchers
        self.deadline = Deadline(run, config, ranks.world, began)
        self.clock = Clock(config.train, state.seconds, state.progress)
        self.guard = Guard(config, run, state)
        self.pauses = Pauses(config, run, state, self.clock, self.deadline, ranks, self.watchers, self._note)
        self.skipped = SkippedFile(run, watchers) if ranks.first else None
        if self.skipped is not None:
            self.skipped.update(source)
        index = configs.stage_at(config, self.clock.progress(state.step))
        self.stage = Stage(config, index, state.position, state.rollbacks, ranks, source if index == 0 else None)
        self._waited_before, self._seconds_before, self._speed = 0.0, state.seconds, 0.0
        self._matmul_rate = meters.matmul_rate(config, state.device)
        if ranks.first and self.deadline.kept:
            self.deadline.save()
        if self.deadline.went_back:
            self._note(f"the clock went back by {self.deadline.went_back:.0f} s: the deadline goes back with it")

    def run(self) -> None:
        """Takes steps until the budget is used or the run is told to stop, then saves."""
        c, state, pauses, run = self.config, self.state, self.pauses, self.run_folder
        every, snapshots = c.train.sample_every, c.train.posthoc_snapshots
        with stop_requested() as stop:
            if has_deadline(c.budget):
                pauses.rehearse(self.stage)
            self.clock.run()
            now = self._agree(self._look(), stop())
            next_samples = (int(now.progress / every) + 1) * every
            next_snapshot = (int(now.progress * snapshots + 1e-9) + 1) / snapshots
            while now.progress < 1 and not now.stop:
                if (index := configs.stage_at(c, now.progress)) != self.stage.index:
                    self._enter_stage(index)
                before = state.position
                record = self._step(now.progress)
                here = self._look()
                if record is not None:
                    self._tell(record, here)
                now = self._agree(here, stop())
                pauses.watchdog.alive(state.step)
                if self.guard.exhausted:
                    self._roll_back()
                    now = self._agree(self._look(), stop())
                    continue
                if now.progress >= next_samples or now.progress >= 1:
                    pauses.draw(self.stage)
                    next_samples += every
                if due(self.stage.config, before, state.position):
                    pauses.measure(self.stage)
                if state.power_averages is not None and now.progress >= next_snapshot:
                    state.power_averages.snapshot(run, state.step // c.train.ema_every, self.ranks.first)
                    next_snapshot += 1 / snapshots
                if now.save and not self.guard.in_a_row:
                    pauses.save()
            self.clock.pause()
            self.stage.batches.close()
            if now.progress >= 1 and has_deadline(c.budget) and c.evaluate.metrics:
                pauses.measure(self.stage)
            state.seconds, state.progress = now.seconds, now.progress
            pauses.save_at_last(patient=not now.stop)
        if now.progress < 1:
            self._note(
                f"stopped at step {state.step} and saved; continue with: daybreak train --resume {self.run_folder}"
            )

    def close(self) -> None:
        """Ends what runs beside the loop."""
        self.stage.batches.close()
        self.pauses.close()
        if self.files is not None:
            self.files.close()

    def _look(self) -> Moment:
        """Where this rank sees the run; the first rank's view counts."""
        half_a_step = 0.5 * self.stage.config.train.batch / self._speed if self._speed else 0.0
        ending = self.clock.end is not None and time.monotonic() + half_a_step > self.clock.end
        progress = 1.0 if ending else self.clock.progress(self.state.step)
        return Moment(progress, self.clock.seconds, False, self.pauses.save_due)

    def _agree(self, here: Moment, stop: bool) -> Moment:
        """One exchange a step: the first rank's view for all, and whether any rank was told to stop."""
        (progress, seconds, save), (stop,) = self.ranks.agree([here.progress, here.seconds, float(here.save)], [stop])
        self.state.seconds, self.state.progress = seconds, progress
        return Moment(progress, seconds, stop, bool(save))

    def _step(self, progress: float) -> StepRecord | None:
        """One step; None where it was refused."""
        c, state, ranks = self.stage.config, self.state, self.ranks
        began = time.monotonic()
        factor = learning_rate_factor(state.step, progress, c.optim.warmup_steps, c.optim.decay_share)
        batch = next(self.stage.batches)
        # Drawn for all ranks at once, so that nothing depends on how many there are.
        random = StepRandomness.draw(torch.Size((c.train.batch, *batch.shape[1:])), c, state.generator)
        if ranks.world > 1:
            random = random.rows(ranks.share(c.train.batch))
        watched = (state.step + 1) % c.train.watch_every == 0
        levels = NoiseLevels(state.device) if watched else None
        norms = meters.Norms(state, ranks) if watched else None
        mean, terms = backward(
            state.transformer, state.text_encoder, batch, random, c, state.objective, progress, levels
        )
        loss, *values = ranks.mean(torch.stack([mean, *terms.values()])).tolist()
        if norms is not None:
            norms.see_gradients()
        norm = clip_and_step(
            state.parameters(), state.optimizers, c.optim.clip_norm, factor, lambda n: self.guard.accepts(loss, n)
        ).item()
        named = dict(zip(terms, values, strict=True))
        applied = self.guard.accepts(loss, norm)
        if applied:
            self.guard.passed(loss)
            self._update_averages()
        else:
            reason = self.guard.refused(loss, named, norm, factor, self.stage.source, c.train.batch, ranks.first)
            self._note(reason)
            if self.files is not None:
                self.files.on_bad_step(state.step + 1, reason)
        state.step += 1
        state.position += c.train.batch
        speed = c.train.batch / (time.monotonic() - began)
        self._speed = speed if self._speed == 0 else 0.95 * self._speed + 0.05 * speed
        if not applied:
            return None
        measured = norms.values() if norms is not None else {}
        if levels is not None:
            measured |= meters.by_noise_level(levels, ranks) | self._efficiency(batch.captions)
        return StepRecord(
            step=state.step, images=state.position, seconds=0.0, progress=progress, loss=loss, terms=named,
            gradient_norm=norm, lr_factor=factor, images_per_second=self._speed, waiting=0.0, seconds_left=None,
            measured=measured,
            learning_rates={type(o).__name__.lower(): o.param_groups[0]["lr"] for o in state.optimizers},
        )  # fmt: skip

    def _update_averages(self) -> None:
        """Draws the averaged networks towards the trained ones, every so many steps."""
        state, t = self.state, self.config.train
        if (state.step + 1) % t.ema_every:
            return
        update = state.step // t.ema_every
        update_average(state.average, state.transformer, t.ema, update)
        if not state.text_encoder.frozen:
            update_average(state.average_text, state.text_encoder, t.ema, update)
        if state.power_averages is not None:
            state.power_averages.update(state.trained_networks(), update)

    def _enter_stage(self, index: int) -> None:
        """Changes over to another stage of the config."""
        with self.pauses.working("the next stage"):
            self.stage.batches.close()
            self._waited_before += self.stage.batches.waited_seconds
            self.stage = Stage(self.config, index, self.state.position, self.state.rollbacks, self.ranks)
            self._speed = 0.0
            self.state.losses.clear()  # another resolution has other losses
        c = self.stage.config
        self._note(f"stage {index + 1} of {len(self.config.stages)}: {c.data.resolution} px, batch {c.train.batch}")
        if has_deadline(c.budget):
            self.pauses.draw(self.stage)  # takes another time here

    def _roll_back(self) -> None:
        """Returns to the last good checkpoint, with the data in another order; TrainingError where that is no use."""
        state, run = self.state, self.run_folder
        try:
            self.pauses.checkpoints.finish()
            folder = checkpoint.newest_good(run, self._note, skip=self.guard.returns)
        except (ConfigError, SaveError):
            raise TrainingError(self.guard.diagnosis()) from None
        if self.guard.returns >= MAX_ROLLBACKS:
            raise TrainingError(self.guard.diagnosis())
        with self.pauses.working("the return to a checkpoint"):
            rollbacks, skipped, was = state.rollbacks + 1, state.skipped_steps, state.step
            checkpoint.roll_back(state, folder)
            state.rollbacks, state.skipped_steps = rollbacks, skipped
            state.generator.manual_seed(self.config.train.seed + ORDER_SEED * rollbacks + state.step)
            self.guard.returned()
            self.stage.batches.close()
            index = configs.stage_at(self.config, self.clock.progress(state.step))
            self.stage = Stage(self.config, index, state.position, rollbacks, self.ranks)
            if self.files is not None:
                self.files.rewind(state.step)
        self._note(f"from step {was} back to {folder.name}; the data come in another order from here")

    def _tell(self, record: StepRecord, now: Moment) -> None:
        """Tells the watchers of a step."""
        if not self.ranks.first:
            return
        trained = max(1e-9, now.seconds - self._seconds_before)
        cost = self.deadline.cost()
        record = dataclasses.replace(
            record, seconds=now.seconds, progress=now.progress, seconds_left=self.clock.seconds_left(record.step),
            waiting=(self._waited_before + self.stage.batches.waited_seconds) / trained, cost=cost,
            cost_forecast=self.deadline.forecast(now.progress) if cost is not None else None,
        )  # fmt: skip
        for w in self.watchers:
            w.on_step(record)
        if self.skipped is not None:
            self.skipped.update(self.stage.source)

    def _efficiency(self, captions: list[str]) -> dict[str, float]:
        """How much of what the device can multiply the transformer's training used (MFU), and the memory it took."""
        text = self.state.text_encoder
        tokens = text.tokens(captions)[0].shape[1]
        flops = meters.transformer_flops(self.stage.config, text.width, tokens)
        return {
            "mfu": flops * self._speed / (self._matmul_rate * self.ranks.world),
            "matmul_tflops": self._matmul_rate / 1e12,
            "text_tokens": float(tokens),
            "processes": float(self.ranks.world),
        } | meters.memory_gib(self.state.device)

    def _note(self, text: str) -> None:
        if self.ranks.first:
            for w in self.watchers:
                w.on_note(text)


def _name(device: torch.device, ranks: Processes) -> str:
    many = f"{ranks.world} x " if ranks.world > 1 else ""
    if device.type == "cuda":
        return many + torch.cuda.get_device_name(device)
    return f"{many}{torch.get_num_threads()} CPU cores"
