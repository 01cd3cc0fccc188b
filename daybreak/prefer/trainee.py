"""A model of our own that learns preferences, as a trainee of the loop of daybreak train."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daybreak.config import Config, override
from daybreak.config.files import plain, plain_settings
from daybreak.data.batch import Source
from daybreak.diffusion import flow
from daybreak.diffusion.times import sample_times
from daybreak.encoders.text import TextEncoder
from daybreak.losses.compute import velocity_loss
from daybreak.losses.preference import PairErrors, dpo_loss
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.prefer import settings as settings_file
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.ranking import Draw
from daybreak.prefer.real_pictures import has_real
from daybreak.prefer.settings import PreferSettings
from daybreak.sampling.generate import generate
from daybreak.train.meters import NoiseLevels, memory_gib
from daybreak.train.pixel import ORDER_SEED, Pixel
from daybreak.train.trainee import Samples


@dataclass
class Preferring(Pixel):
    """A model that learns what is preferred, and stays near to what it was: `reference`, `reference_text`, frozen."""

    lessons: Lessons | None = field(default=None, kw_only=True)
    reference: Transformer | None = field(default=None, kw_only=True)
    reference_text: TextEncoder | None = field(default=None, kw_only=True)
    go_on: str = field(default="daybreak prefer --resume", kw_only=True)
    begins_with_samples = True
    calmer = "a smaller --lr, or a larger --beta"
    smaller = "a smaller --batch"

    def learn(self, lessons: Lessons, transformer: Transformer, text_encoder: TextEncoder) -> None:
        """Sets what is learnt, and the reference."""
        self.lessons, self.remarks = lessons, lessons.remarks
        self.reference = transformer.to(self.device).eval().requires_grad_(False)
        frozen = text_encoder.frozen
        self.reference_text = self.text_encoder if frozen else text_encoder.to(self.device).eval().requires_grad_(False)

    def frozen(self) -> tuple[Transformer, TextEncoder]:
        """The reference's networks."""
        assert self.reference is not None and self.reference_text is not None
        return self.reference, self.reference_text

    @property
    def settings(self) -> PreferSettings:
        """What the run was told."""
        assert self.lessons is not None
        return self.lessons.settings

    def draw_with(self, transformer: Transformer, text_encoder: TextEncoder) -> Draw:
        """Draws captions, which are written out already, as the run draws."""
        as_they_stand = override(self.config, "sample.expand", "none")

        def draw(captions: Sequence[str], numbers: Sequence[int], seed: int) -> Tensor:
            return generate(transformer, text_encoder, list(captions), as_they_stand, seed, numbers=list(numbers))

        return draw

    def draw(self, path: Path, ranks: Ranks, asked: Sequence[str] = ()) -> Samples:
        """See `Trainee`; what is measured of the held-out prompts is told beside."""
        assert self.lessons is not None and self.reference is not None and self.reference_text is not None
        samples = super().draw(path, ranks, asked)
        now, then = self.draw_with(*self.drawing_networks()), self.draw_with(self.reference, self.reference_text)
        return dataclasses.replace(samples, probes=self.lessons.measure(now, then))

    def measured(
        self, batch: Any, speed: float, ranks: Ranks, watched: bool  # noqa: ARG002
    ) -> dict[str, float]:  # fmt: skip
        """The memory now and then."""
        return memory_gib(self.device) if watched else {}

    def pictures_at_end(self) -> tuple[int, int]:
        """See `Trainee`; those of the report, none of which is left out."""
        assert self.lessons is not None
        prompts, others = super().pictures_at_end()
        compared = self.config.data.source == "scenes" or has_real(self.settings, self.config)
        return 0, 2 * prompts + others + self.lessons.drawn_at_end(compared)

    def save_settings(self, run: Path) -> None:
        """RUN/config.yaml, and RUN/prefer.yaml."""
        super().save_settings(run)
        settings_file.save(self.settings, run)

    def plain_settings(self) -> dict[str, Any]:
        """See `Trainee`."""
        return plain(self.config) | {"prefer": plain_settings(self.settings)}


@dataclass(frozen=True)
class PairRandomness:
    """All that is random in a step of B pairs: noise [B, 3, H, W] with its scale and t [B], the same for both pictures
    of a pair."""

    noise: Tensor
    t: Tensor

    def rows(self, rows: slice) -> PairRandomness:
        """Of some of the pairs."""
        return PairRandomness(self.noise[rows], self.t[rows])


@dataclass
class Pairwise(Preferring):
    """Diffusion-DPO on pairs of pictures."""

    def open_source(self, index: int) -> Source:
        """The pairs of round `index`."""
        assert self.lessons is not None
        seed = self.config.train.seed + ORDER_SEED * self.rollbacks
        draw = self.draw_with(*self.drawing_networks())
        return self.lessons.pairs(index, self.config.data.resolution, seed, draw)

    def random(self, batch: Any, config: Config) -> Any:
        """`PairRandomness` of a `PairBatch`."""
        d, shape = config.diffusion, (config.train.batch, *batch.shape[1:])
        noise = d.noise_scale * torch.randn(shape, generator=self.generator)
        return PairRandomness(noise, sample_times(shape[0], d.shift, self.generator, d.logit_mean, d.logit_std))

    def loss(
        self, batch: Any, random: Any, config: Config, progress: float, share: float,  # noqa: ARG002
        levels: NoiseLevels | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`; of a `PairBatch` and its `PairRandomness`, by losses/preference.py."""
        device, twice = self.device, list(range(len(batch))) * 2
        x0 = torch.cat([batch.winners, batch.losers]).to(device)
        noise, t = (torch.cat([v, v]).to(device) for v in (random.noise, random.t))
        x_t = flow.interpolate(x0, noise, t)

        def errors(transformer: Transformer, text_encoder: TextEncoder) -> PairErrors:
            text = text_encoder(batch.captions).rows(twice)
            return PairErrors.of(velocity_loss(transformer(x_t, t, text).x0, x0, x_t, t, config.diffusion.floor))

        assert self.reference is not None and self.reference_text is not None
        own = errors(self.transformer, self.text_encoder)
        with torch.no_grad():
            reference = errors(self.reference, self.reference_text)
        terms = dpo_loss(own, reference, self.settings.beta)
        loss = terms["preference"]
        if levels is not None:
            levels.add(own.winner.detach(), random.t.to(device))
        return share * loss, {name: term.detach() for name, term in terms.items()}
