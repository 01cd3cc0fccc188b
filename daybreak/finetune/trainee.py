"""A base of diffusers as a trainee: what daybreak finetune hands to the loop of daybreak train."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from daybreak.config import BudgetConfig, Config, DataConfig, OptimConfig, TrainConfig
from daybreak.data.batch import Source
from daybreak.data.shards.buckets import Bucket
from daybreak.evaluate.asked_pictures import save_asked
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.shown import Shown
from daybreak.finetune.advice import Adviser
from daybreak.finetune.cache import Cache
from daybreak.finetune.drawing import draw, draw_each, on_one_canvas
from daybreak.finetune.order import CachedBatch, CachedPictures, Order
from daybreak.finetune.pipeline_trainee import PipelineTrainee
from daybreak.finetune.probes import DRIFT_PICTURES, Probe, TextOf, drift
from daybreak.finetune.seen import draw_seen
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.step import StepRandomness, squared_errors
from daybreak.parallel import Ranks
from daybreak.run_folder import shown_folder
from daybreak.train.meters import NoiseLevels, memory_gib
from daybreak.train.pixel import ORDER_SEED
from daybreak.train.trainee import NUMBERS, Samples
from daybreak.train.watch import MetricsRecord, StepRecord

QUARTERS = ("noise 0.00-0.25", "noise 0.25-0.50", "noise 0.50-0.75", "noise 0.75-1.00")


@dataclass
class Diffusers(PipelineTrainee):
    """prompts: drawn as samples. probes: "general", and "domain" where pictures are held out; start: their losses of
    the base.
    """

    cache: Cache
    prompts: list[str]
    probes: dict[str, Probe]
    world: int = 1
    start: dict[str, float] = field(default_factory=dict)
    adviser: Adviser = field(default_factory=Adviser)

    numbers = (*NUMBERS, "start")
    go_on: str = field(default="daybreak finetune --resume", kw_only=True)
    knows_others: bool = field(default=True, kw_only=True)
    calmer = "a lower --lr, or --precision float32"
    smaller = "--recompute, a smaller --resolution, --method lora or --adam-8bit"
    asks_for_trackers = "--tracker "

    def __post_init__(self) -> None:
        self.remarks = self._advise
        self._own = self.order.own

    @property
    def order(self) -> Order:
        """Which pictures each step sees; after a return to a checkpoint another one."""
        seed = self.settings.seed + ORDER_SEED * self.rollbacks
        return order_of(self.cache, self.settings, seed)

    @property
    def epochs(self) -> float:
        """How often each picture was seen so far."""
        return self.step * self._own / len(self.cache.training)

    @property
    def sample_shapes(self) -> list[Bucket]:
        """Of each prompt: where it is the caption of a picture, the shape of that, else the square."""
        return [self.cache.shape_of(prompt) or (self.base.side, self.base.side) for prompt in self.prompts]

    @property
    def text_of(self) -> TextOf:
        """Captions to text."""
        return TextOf(self.base.family, self.cache, self.base.trained.text, self.device)

    # Data and steps.

    def open_source(self, index: int) -> Source:  # noqa: ARG002 (there is one stage)
        """See `Trainee`."""
        return CachedPictures(self.cache, self.order, self.settings, self.base.side)

    def parts(self, batch: CachedBatch, at_once: int) -> list[slice]:
        """See `Trainee`."""
        return batch.parts(at_once)

    def random(self, batch: CachedBatch, config: Config) -> StepRandomness:  # noqa: ARG002 (all ranks draw alike)
        """See `Trainee`."""
        s, family = self.settings, self.base.family
        shape = (s.batch, family.row_channels(self.cache.rows[0].shape[1]), *batch.canvas)
        random = StepRandomness.draw(shape, self.base.process, s.drop_captions, s.offset_noise, s.flip, self.generator)
        self._counts = torch.bincount(self._quarter(random), minlength=len(QUARTERS))
        return random

    def loss(
        self, batch: CachedBatch, random: StepRandomness, config: Config, progress: float, share: float,  # noqa: ARG002
        levels: NoiseLevels | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`. Each picture counts by its weight in the whole batch."""
        family, process = self.base.family, self.base.process
        dropped = random.drop.tolist()
        text = self.text_of(["" if drop else c for c, drop in zip(batch.captions, dropped, strict=True)])
        text["sizes"] = self.cache.sizes[batch.numbers].to(self.device)
        pictures = self.cache.pictures(batch.numbers, random.flip, self.device)
        places = self.cache.places(batch.numbers, random.flip, self.device)
        errors = squared_errors(family, family.network, process, pictures, text, random, places)
        weights = batch.weights.to(errors)
        loss = (errors * (weights if self.world == 1 else self.world * weights)).sum()
        quarter, found = self._quarter(random), errors.detach().float().cpu()
        scale = self.world / share
        terms = {
            name: scale * found[quarter == i].sum() / self._counts[i]
            for i, name in enumerate(QUARTERS)
            if self._counts[i]
        }
        if levels is not None:
            levels.add(errors.detach().float(), process.level(random.t).to(errors))
        return loss, terms

    def _quarter(self, random: StepRandomness) -> Tensor:
        return (len(QUARTERS) * self.base.process.level(random.t)).long().clamp(0, len(QUARTERS) - 1)

    def measured(
        self, batch: CachedBatch, speed: float, ranks: Ranks, watched: bool  # noqa: ARG002
    ) -> dict[str, float]:  # fmt: skip
        """Epochs; now and then the memory."""
        return {"epochs": self.epochs} | (memory_gib(self.device) if watched else {})

    def _advise(self, record: StepRecord | MetricsRecord) -> list[tuple[str, str]]:
        if isinstance(record, StepRecord):
            clip = self.settings.clip_norm
            found = self.adviser.after_step(record.step, record.loss, record.gradient_norm, self.epochs, clip)
        else:
            now = {name: record.values[name] for name in self.start}
            found = self.adviser.after_probe(record.step, self.start, now, self.epochs, record.values.get("drift"))
        return [(a.alarm, a.text) for a in found]

    # Pauses.

    def draw(self, path: Path, ranks: Ranks, asked: Sequence[str] = ()) -> Samples:
        """Samples, probes, and what goes on inside. Of a base that is not sharded, at the first process alone."""
        if not ranks.first and not self.sharded:
            return Samples()
        base, settings = self.base, self.settings
        with base.drawing():
            losses = self.probe_losses()
            if self.step == 0:
                self.start = losses
            began = time.monotonic()
            pictures = draw_each(base.family.pipeline, self.prompts, settings, self.sample_shapes)
            seconds = (time.monotonic() - began) / len(self.prompts)
            wanted = draw(base.family.pipeline, list(asked), settings, base.side) if asked else None
            shown = Shown(shown_folder(path)) if ranks.first else None
            if shown is not None:
                save_grid(on_one_canvas(pictures), self.prompts, path)
                shown.pictures(pictures, self.prompts)
            moved = {}
            if self.step > 0:
                general = self.probes["general"].captions[:DRIFT_PICTURES]
                way = drift(self.folder, draw(base.family.pipeline, general, settings, base.side))
                moved = {} if way is None else {"drift": way}
            seen = draw_seen(base, self.probes, self.text_of, path.parent, self.step, shown)
            if shown is not None:
                shown.close()
        changes = {f"{name}_change": loss / self.start[name] - 1 for name, loss in losses.items()}
        files = save_asked(wanted, asked, path, 0) if wanted is not None and ranks.first else {}
        return Samples(None, seconds, seen, {**losses, **changes, **moved}, files)

    def probe_losses(self) -> dict[str, float]:
        """The probes' losses with the weights that are in place."""
        base = self.base
        return {k: p.loss(base.family, base.process, self.text_of, base.device) for k, p in self.probes.items()}

    def pictures_at_end(self) -> tuple[int, int]:
        """Those of the report."""
        return 0, self.settings.drawn_for_report("domain" in self.probes, len(self.probes["general"].captions))


def order_of(cache: Cache, settings: FinetuneSettings, seed: int) -> Order:
    """Which pictures each step sees."""
    return Order(cache.training, cache.prior, settings.batch, seed, lambda number: cache.at[number][0])


def loop_config(settings: FinetuneSettings, steps: int, at_once: int) -> Config:
    """What the loop is told of a fine-tuning run."""
    hours = None if settings.deadline_minutes is None else settings.deadline_minutes / 60
    return Config(
        recipe="finetune",
        data=DataConfig(workers=0),
        train=TrainConfig(
            steps=steps, minutes=settings.minutes, batch=settings.batch, microbatch=at_once, seed=settings.seed,
            ema=settings.ema, sample_steps=settings.sample_every, save_steps=settings.save_every,
            trackers=cast(Any, settings.trackers), precision="float32",
        ),
        optim=OptimConfig(
            adam_lr=settings.learning_rate, warmup_steps=settings.warmup_steps, decay_share=settings.decay_share,
            clip_norm=settings.clip_norm,
        ),
        budget=BudgetConfig(hours=hours),
    )  # fmt: skip
