"""A fine-tuning run, from its first step to its last checkpoint. Shaped like train/loop.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from daybreak.config import ConfigError, TrainConfig
from daybreak.display import duration
from daybreak.evaluate.grid import save_grid
from daybreak.finetune import state as states
from daybreak.finetune.advice import Advice, Adviser
from daybreak.finetune.cache import Cache, Order
from daybreak.finetune.drawing import draw
from daybreak.finetune.inside import draw_inside
from daybreak.finetune.log import FinetuneLog
from daybreak.finetune.probes import DRIFT_PICTURES, Probe, TextOf, drift
from daybreak.finetune.state import State
from daybreak.finetune.step import StepRandomness, squared_errors
from daybreak.optim.schedule import learning_rate_factor
from daybreak.parallel import Ranks, sum_gradients, total
from daybreak.train.clock import Clock
from daybreak.train.guard import TrainingError
from daybreak.train.stop import stop_requested
from daybreak.train.watch import SampleRecord, StepRecord, Watcher

MAX_BAD_STEPS = 10
"""So many steps in a row without a finite gradient end the run."""
QUARTERS = ("noise 0.00-0.25", "noise 0.25-0.50", "noise 0.50-0.75", "noise 0.75-1.00")


@dataclass
class Run:
    """What a run works with. prompts: drawn as samples; probes: "general", and "domain" where pictures are held out.

    side: of pictures, px. ends: the deadline on the wall clock, seconds since 1970.
    """

    folder: Path
    state: State
    cache: Cache
    order: Order
    steps: int
    micro_batch: int
    side: int
    prompts: list[str]
    probes: dict[str, Probe]
    watchers: list[Watcher]
    ranks: Ranks
    ends: float | None = None
    seconds_a_picture: float = 0.0

    def note(self, text: str) -> None:
        """To whoever watches."""
        if self.ranks.first:
            for w in self.watchers:
                w.on_note(text)

    @property
    def afterwards(self) -> float:
        """Seconds that a deadline keeps for the report."""
        general = len(self.probes["general"].captions)
        return self.seconds_a_picture * self.state.settings.drawn_for_report("domain" in self.probes, general)

    @property
    def text_of(self) -> TextOf:
        """Captions to text."""
        return TextOf(self.state.family, self.cache, self.state.trained.text, self.state.device)


def train(run: Run) -> Adviser:
    """Trains to the end of the budget, or until SIGINT or SIGTERM, and saves. Returns the advice that was given.

    Raises TrainingError where the loss stays infinite, or one picture does not fit into memory.
    """
    state, settings = run.state, run.state.settings
    first = run.ranks.first
    adviser = Adviser()
    log = FinetuneLog(run.folder, settings, state.step or None, run.watchers) if first else None
    clock = Clock(TrainConfig(steps=run.steps, minutes=settings.minutes), state.seconds)
    bad, speed, began_run, looked = 0, 0.0, time.time(), state.step

    def progress() -> float:
        """Of steps, minutes and deadline, whichever is furthest."""
        share = clock.progress(state.step)
        if run.ends is not None:
            over = run.ends - run.afterwards
            share = max(share, 1 - max(0.0, over - time.time()) / max(1e-9, over - began_run))
        return float(total(torch.tensor([share if first else 0.0]), run.ranks))

    with stop_requested() as stop:
        if state.step == 0:
            _look(run, log, adviser, clock.seconds)
            if first and run.ends is not None and time.time() + run.afterwards >= run.ends:
                raise ConfigError(report_takes_all(run.afterwards))
        clock.run()
        while (used := progress()) < 1:
            if bool(total(torch.tensor([float(stop())]), run.ranks)):
                break
            began = time.monotonic()
            factor = learning_rate_factor(state.step, used, settings.warmup_steps, settings.decay_share)
            loss, terms, norm = one_step(run, factor)
            if torch.isfinite(norm):
                bad = 0
                state.averages.update(state.step)
            else:
                bad += 1
                run.note(f"step {state.step}: loss {loss:g}, gradient not finite; the step was not applied")
                if bad >= MAX_BAD_STEPS:
                    raise TrainingError(
                        f"{MAX_BAD_STEPS} steps in a row without a finite gradient, at step {state.step}: try a lower "
                        "--lr, or --precision float32"
                    )
            state.step += 1
            now = settings.batch / (time.monotonic() - began)
            speed = now if speed == 0 else 0.95 * speed + 0.05 * now
            epochs = state.step * run.order.own / len(run.cache.training)
            record = StepRecord(
                step=state.step,
                images=state.step * settings.batch,
                seconds=clock.seconds,
                progress=min(1.0, max(clock.progress(state.step), used)),
                loss=loss,
                terms=terms,
                gradient_norm=norm.item(),
                lr_factor=factor,
                images_per_second=speed,
                waiting=0.0,  # everything is at hand
                seconds_left=clock.seconds_left(state.step),
                measured={"epochs": epochs},
                learning_rates=dict(zip(("denoiser", "text"), _learning_rates(state), strict=False)),
            )
            if log is not None:
                for w in (log, *run.watchers):
                    w.on_step(record)
                _advise(run, log, adviser.after_step(state.step, loss, norm.item(), epochs, settings.clip_norm))
            if state.step % settings.sample_every == 0 or state.step == run.steps:
                clock.pause()
                _look(run, log, adviser, clock.seconds)
                looked = state.step
                clock.run()
            if state.step % settings.save_every == 0 and state.step < run.steps:
                clock.pause()
                _save(run, clock)
                clock.run()
        clock.pause()
    finished = clock.progress(state.step) >= 1 or progress() >= 1
    if finished and looked < state.step:  # where time, and not the last step, ended it
        _look(run, log, adviser, clock.seconds)
    _save(run, clock)
    if not finished:
        run.note(f"stopped at step {state.step} and saved; continue with: daybreak finetune --resume {run.folder}")
    if log is not None:
        log.close()
    return adviser


def report_takes_all(seconds: float) -> str:
    """What is wrong with a deadline in which a report of so many seconds leaves no time to train."""
    return (
        f"--deadline leaves no time to train: the report's pictures take about {seconds:.0f} s here; give more, "
        "fewer --report-pictures, or --no-report"
    )


def finished(run: Run) -> bool:
    """Whether the budget is used, and the run was not just stopped."""
    minutes = run.state.settings.minutes
    return (
        run.state.step >= run.steps
        or (minutes is not None and run.state.seconds >= 60 * minutes)
        or (run.ends is not None and time.time() + run.afterwards >= run.ends)
    )


def one_step(run: Run, factor: float) -> tuple[float, dict[str, float], Tensor]:
    """One update: the loss, the losses by noise level, and the gradient's norm before clipping."""
    state, settings = run.state, run.state.settings
    rows = run.order.rows(state.step)
    channels = state.family.row_channels(run.cache.rows.shape[1])
    shape = (len(rows), channels, *run.cache.rows.shape[2:])
    random = StepRandomness.draw(
        shape, state.process, settings.drop_captions, settings.offset_noise, settings.flip, state.generator
    )
    # The user's pictures and the prior ones each count by their own mean (DreamBooth, arXiv 2208.12242, eq. 2).
    own = run.order.own
    weights = torch.tensor(
        [1 / own if i < own else settings.prior_weight / (len(rows) - own) for i in range(len(rows))]
    )
    while True:
        try:
            errors = _accumulate(run, rows, random, weights)
            break
        except torch.cuda.OutOfMemoryError:
            if run.micro_batch == 1:
                raise TrainingError(
                    "one picture does not fit into the GPU's memory: try --recompute, a smaller --resolution, "
                    "--method lora or --adam-8bit"
                ) from None
            state.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            run.micro_batch = max(1, run.micro_batch // 2)
            run.note(
                f"the GPU's memory is full: {run.micro_batch} pictures at once from here on; the result is the same"
            )
    parameters = list(state.trained.parameters.values())
    sum_gradients(parameters, run.ranks)
    norm = _update(state, factor)
    errors = total(errors, run.ranks)
    level = (4 * state.process.level(random.t)).long().clamp(0, 3)
    terms = {name: errors[level == i].mean().item() for i, name in enumerate(QUARTERS) if bool((level == i).any())}
    return float((errors * weights).sum()), terms, norm


def _accumulate(run: Run, rows: list[int], random: StepRandomness, weights: Tensor) -> Tensor:
    """Gradients of the whole batch, a micro-batch at a time; returns [B] the losses of this process's pictures."""
    state, cache, text_of = run.state, run.cache, run.text_of
    errors = torch.zeros(len(rows))
    starts = range(0, len(rows), run.micro_batch)
    for start in run.ranks.share(starts):
        part = slice(start, start + run.micro_batch)
        some, here = random.part(part), rows[part]
        seed, step = state.settings.seed, state.step
        captions = [
            "" if drop else cache.drawn(r, seed, step) for r, drop in zip(here, some.drop.tolist(), strict=True)
        ]
        pictures = cache.pictures(here, some.flip, state.device)
        with state.autocast():
            text = text_of(captions)
            losses = squared_errors(state.family, state.family.network, state.process, pictures, text, some)
        state.scaler.scale((losses * weights[part].to(losses)).sum()).backward()
        errors[part] = losses.detach().float().cpu()
    return errors


def _update(state: State, factor: float) -> Tensor:
    """Clips, applies one update at `factor` times the base rates where the gradient is finite, and clears it."""
    state.scaler.unscale_(state.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(list(state.trained.parameters.values()), state.settings.clip_norm)
    for group in state.optimizer.param_groups:
        rate = group["base_lr"] * factor
        if isinstance(group["lr"], torch.Tensor):  # torchao's, whose compiled step reads the rate from memory
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    if torch.isfinite(norm):
        state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    return norm.detach().cpu()


def _learning_rates(state: State) -> list[float]:
    """Of the denoiser, or the new word, and of the text encoder where it is trained."""
    return [float(group["lr"]) for group in state.optimizer.param_groups]


def _advise(run: Run, log: FinetuneLog, advice: list[Advice]) -> None:
    for a in advice:
        run.note(f"advice, step {run.state.step}: {a.text}")
        log.on_advice(a.alarm, a.text, run.state.step)


def _look(run: Run, log: FinetuneLog | None, adviser: Adviser, seconds: float) -> None:
    """Samples, probes, and what goes on inside, with the averaged weights."""
    if log is None:
        return
    state = run.state
    with state.drawing():
        losses = measure(run)
        if state.step == 0:
            state.start = losses
        began = time.monotonic()
        pictures = draw(state.family.pipeline, run.prompts, state.settings, run.side)
        run.seconds_a_picture = (time.monotonic() - began) / len(run.prompts)
        path = run.folder / "samples" / f"step-{state.step:08d}.png"
        save_grid(pictures, run.prompts, path)
        moved = None
        if state.step > 0:
            general = run.probes["general"].captions[:DRIFT_PICTURES]
            moved = drift(run.folder, draw(state.family.pipeline, general, state.settings, run.side))
        shown = draw_inside(state, run.probes, run.text_of, run.folder / "samples")
    inside = {name: str(file) for name, file in shown.items()}
    for w in (log, *run.watchers):
        w.on_samples(SampleRecord(state.step, state.step * state.settings.batch, seconds, str(path), None, inside))
    log.on_probes(state.step, losses, state.start, moved)
    said = [f"{k} loss {v:.4f} ({v / state.start[k] - 1:+.1%})" for k, v in losses.items()]
    run.note("probes: " + ", ".join(said + ([f"general pictures moved {moved:.0%}"] if moved is not None else [])))
    epochs = state.step * run.order.own / len(run.cache.training)
    _advise(run, log, adviser.after_probe(state.step, state.start, losses, epochs, moved))


def measure(run: Run) -> dict[str, float]:
    """The probes' losses with the weights that are in place."""
    s = run.state
    return {name: probe.loss(s.family, s.process, run.text_of, s.device) for name, probe in run.probes.items()}


def _save(run: Run, clock: Clock) -> None:
    run.state.seconds = clock.seconds
    if run.ranks.first:
        states.save(run.state, run.folder)


Tell = Callable[[str], None]


def describe(run: Run) -> str:
    """One line for the log."""
    c, s = run.cache, run.state
    held = f", {len(c.held_out)} held out" if c.held_out else ", none held out"
    prior = f", {len(c.prior)} of the class" if c.prior else ""
    left = f", until {duration(max(0, run.ends - time.time()))} from now" if run.ends else ""
    return (
        f"{len(c.training)} pictures{held}{prior} at {run.side} px; {s.trained.count() / 1e6:.2f} M of the parameters "
        f"are trained at {s.settings.learning_rate:g}; {run.steps} steps of {s.settings.batch} "
        f"({run.micro_batch} at once){left}"
    )
