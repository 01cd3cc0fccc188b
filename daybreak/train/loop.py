"""A run, from its config to its last checkpoint."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.batch import Skipped, Source
from daybreak.data.open import open_source
from daybreak.data.stream import stream
from daybreak.evaluate.during_training import due, measure, measurement_request
from daybreak.evaluate.probe import Probe
from daybreak.optim.schedule import learning_rate_factor
from daybreak.train import checkpoint
from daybreak.train.allocator import keep_freed_memory
from daybreak.train.clock import Clock
from daybreak.train.ema import update_average
from daybreak.train.precision import autocast, lower_precision
from daybreak.train.state import TrainState
from daybreak.train.step import StepRandomness, clip_and_step, training_loss
from daybreak.train.watch import LogFiles, MetricsRecord, SampleRecord, StepRecord, Watcher

MAX_BAD_STEPS = 10
"""So many steps in a row without a finite gradient end the run."""


class TrainingError(RuntimeError):
    """The run cannot go on; the message says why and what to try."""


def pick_device() -> torch.device:
    """A CUDA GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(config: Config, run: Path, watchers: list[Watcher], resume: bool = False) -> TrainState:
    """Trains `config` in the folder `run` and returns the final state, whose averaged networks are the result.

    A new run needs an absent or empty folder; `resume` goes on from its newest checkpoint. SIGINT and SIGTERM end the
    run after the step under way, with a checkpoint. Raises ConfigError for a wrong config, folder or checkpoint, and
    TrainingError where the loss stays infinite.
    """
    configs.check(config)
    if config.evaluate.metrics:
        measurement_request(config)  # refuses before anything is made
    device = pick_device()
    if not resume and run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise ConfigError(f"{run} is not empty: choose another --out, or continue it with --resume")
    if resume:
        checkpoint.newest(run)  # refuses before the data are read
    source = open_source(configs.at_stage(config, 0))
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"the run folder {run} cannot be made: {e.strerror}") from None
    configs.save(config, run / "config.yaml")
    skipped = SkippedFile(run, watchers)
    skipped.update(source)
    state = checkpoint.resume(run, config, device) if resume else TrainState.create(config, source, device)
    _prepare(state, config)
    files = LogFiles(run, resumed_from=state.step if resume else None)
    everyone = [files, *watchers]
    for w in watchers:
        w.on_note(f"{source.describe()}; {state.parameter_count() / 1e6:.1f} M parameters on {_name(device)}")
    try:
        _run_steps(config, run, source, state, everyone, skipped)
    finally:
        files.close()
    return state


def _prepare(state: TrainState, config: Config) -> None:
    """What makes the networks fast and changes nothing about them: frozen ones in bfloat16, compilation."""
    if state.device.type == "cpu":
        keep_freed_memory()
    if lower_precision(config, state.device):
        state.objective.to_frozen_dtype(torch.bfloat16)
    if config.train.compile:
        for network in (state.transformer, state.objective.teacher, state.objective.dino, state.objective.lpips):
            if network is not None:
                network.compile()


class _Stage:
    """A stage of the run: the settings that hold in it, its stream of batches, its probe."""

    def __init__(self, config: Config, index: int, position: int, source: Source | None = None) -> None:
        self.index = index
        self.config = configs.at_stage(config, index)
        self.source = source or open_source(self.config)
        self.probe = Probe(self.config, self.source)
        self.batches = stream(self.source, position, self.config.train.batch, self.config.data.workers)


def _run_steps(
    config: Config, run: Path, source: Source, state: TrainState, watchers: list[Watcher], skipped: SkippedFile
) -> None:
    clock = Clock(config.train, state.seconds)
    parameters = state.parameters()
    index = configs.stage_at(config, clock.progress(state.step))
    stage = _Stage(config, index, state.position, source if index == 0 else None)
    c = stage.config
    started, waited_before = clock.seconds, 0.0  # of this process; and waits in the stages before
    next_samples = (int(clock.progress(state.step) / c.train.sample_every) + 1) * c.train.sample_every
    snapshots = config.train.posthoc_snapshots
    next_snapshot = (int(clock.progress(state.step) * snapshots + 1e-9) + 1) / snapshots
    last_save, speed, bad = time.monotonic(), 0.0, 0

    def save() -> None:
        state.seconds = clock.seconds
        checkpoint.save(state, run)

    with _stop_requested() as stop:
        clock.run()
        while (progress := clock.progress(state.step)) < 1 and not stop():
            if (index := configs.stage_at(config, progress)) != stage.index:
                clock.pause()
                stage.batches.close()
                waited_before += stage.batches.waited_seconds
                stage = _Stage(config, index, state.position)
                c, speed = stage.config, 0.0
                for w in watchers:
                    w.on_note(
                        f"stage {index + 1} of {len(config.stages)}: {c.data.resolution} px, batch {c.train.batch}"
                    )
                clock.run()
            began = time.monotonic()
            factor = learning_rate_factor(state.step, progress, c.optim.warmup_steps, c.optim.decay_share)
            batch = next(stage.batches)
            random = StepRandomness.draw(batch.images.shape, c, state.generator)
            with autocast(c, state.device):
                loss, terms = training_loss(
                    state.transformer, state.text_encoder, batch, random, c, state.objective, progress
                )
            loss.backward()
            norm = clip_and_step(parameters, state.optimizers, c.optim.clip_norm, factor)
            if torch.isfinite(norm):
                bad = 0
                _update_averages(state, c)
            else:
                bad = _count_bad_step(bad, state.step, loss, watchers)
            state.step += 1
            state.position += len(batch)
            now = len(batch) / (time.monotonic() - began)
            speed = now if speed == 0 else 0.95 * speed + 0.05 * now
            record = StepRecord(
                step=state.step,
                images=state.position,
                seconds=clock.seconds,
                progress=clock.progress(state.step),
                loss=loss.item(),
                terms={k: v.item() for k, v in terms.items()},
                gradient_norm=norm.item(),
                lr_factor=factor,
                images_per_second=speed,
                waiting=(waited_before + stage.batches.waited_seconds) / max(1e-9, clock.seconds - started),
                seconds_left=clock.seconds_left(state.step),
            )
            for w in watchers:
                w.on_step(record)
            skipped.update(stage.source)
            if record.progress >= next_samples or record.progress >= 1:
                clock.pause()
                _draw_samples(stage.probe, state, run, clock.seconds, watchers)
                next_samples += c.train.sample_every
                clock.run()
            if due(c, state.position - len(batch), state.position):
                clock.pause()
                values = measure(state.average, state.average_text, c, run, state.position, state.device)
                for w in watchers:
                    w.on_metrics(MetricsRecord(state.step, state.position, clock.seconds, values))
                clock.run()
            if state.power_averages is not None and record.progress >= next_snapshot:
                state.power_averages.snapshot(run, state.step // c.train.ema_every)
                next_snapshot += 1 / c.train.posthoc_snapshots
            if time.monotonic() - last_save > 60 * c.train.save_minutes:
                clock.pause()
                save()
                last_save = time.monotonic()
                clock.run()
        clock.pause()
        stage.batches.close()
    save()
    if clock.progress(state.step) < 1:
        for w in watchers:
            w.on_note(f"stopped at step {state.step} and saved; continue with: daybreak train --resume {run}")


def _update_averages(state: TrainState, config: Config) -> None:
    """Draws the averaged networks towards the trained ones, every so many steps."""
    every = config.train.ema_every
    if (state.step + 1) % every:
        return
    update_average(state.average, state.transformer, config.train.ema, state.step // every)
    if not state.text_encoder.frozen:
        update_average(state.average_text, state.text_encoder, config.train.ema, state.step // every)
    if state.power_averages is not None:
        state.power_averages.update(state.trained_networks(), state.step // every)


def _count_bad_step(bad: int, step: int, loss: torch.Tensor, watchers: list[Watcher]) -> int:
    """Tells of a step whose gradient is not finite, which was not applied; raises TrainingError after too many."""
    for w in watchers:
        w.on_note(f"step {step}: loss {loss.item():g}, gradient not finite; the step was not applied")
    if bad + 1 >= MAX_BAD_STEPS:
        raise TrainingError(
            f"{MAX_BAD_STEPS} steps in a row without a finite gradient, at step {step}: try a lower optim.muon_lr and "
            "optim.adam_lr, or train.precision=float32"
        )
    return bad + 1


def _draw_samples(probe: Probe, state: TrainState, run: Path, seconds: float, watchers: list[Watcher]) -> None:
    path = run / "samples" / f"step-{state.step:08d}.png"
    followed = probe.draw(state.average, state.average_text, path)
    record = SampleRecord(state.step, state.position, seconds, str(path), followed)
    for w in watchers:
        w.on_samples(record)


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


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Catches SIGINT and SIGTERM; yields a function that says whether one came. A second one kills as usual."""
    came = False
    previous: dict[int, Any] = {}

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(number, previous[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        previous[number] = signal.signal(number, on_signal)
    try:
        yield lambda: came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU cores"
