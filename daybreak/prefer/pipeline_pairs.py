"""Diffusion-DPO of a model of diffusers, or of an adapter of one of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.finetune.methods import weights
from daybreak.losses.preference import PairErrors, dpo_loss
from daybreak.prefer.pipeline import PreferringPipeline
from daybreak.train.meters import NoiseLevels
from daybreak.train.pixel import ORDER_SEED


@dataclass(frozen=True)
class PairRandomness:
    """All that is random in a step of B pairs, the same for both pictures of a pair.

    noise, posterior [B, C, h, w]: what is added, and what latents are drawn with; t [B]: noise levels.
    """

    noise: Tensor
    posterior: Tensor
    t: Tensor

    def rows(self, rows: slice) -> PairRandomness:
        """Of some of the pairs."""
        return PairRandomness(self.noise[rows], self.posterior[rows], self.t[rows])


@dataclass
class PairwisePipeline(PreferringPipeline):
    """Learns from pairs of pictures."""

    calmer = "a smaller --lr, or a larger --beta"

    def open_source(self, index: int) -> Source:
        """The pairs of round `index`."""
        seed = self.settings.seed + ORDER_SEED * self.rollbacks
        with self.base.drawing():
            return self.lessons.pairs(index, self.base.side, seed, self.draw_now())

    def random(self, batch: Any, config: Config) -> PairRandomness:  # noqa: ARG002
        """See `Trainee`."""
        with torch.no_grad():
            like = self.base.family.rows(batch.winners[:1].to(self.device))
        count, family = self.settings.batch, self.base.family
        shape = (count, family.row_channels(like.shape[1]), *like.shape[2:])
        noise = self.base.process.noise_scale * torch.randn(shape, generator=self.generator)
        posterior = torch.randn(shape, generator=self.generator)
        return PairRandomness(noise, posterior, self.base.process.draw(count, self.generator))

    def loss(
        self, batch: Any, random: Any, config: Config, progress: float, share: float,  # noqa: ARG002
        levels: NoiseLevels | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`; of a `PairBatch` and its `PairRandomness`, by losses/preference.py."""
        family, process = self.base.family, self.base.process
        noise, posterior, t = (torch.cat([v, v]).to(self.device) for v in (random.noise, random.posterior, random.t))
        with torch.no_grad():
            x0 = family.x0(family.rows(torch.cat([batch.winners, batch.losers]).to(self.device)), posterior)
            text = {k: torch.cat([v, v]).to(self.device) for k, v in family.text(batch.captions).items()}
            side = self.base.side
            text["sizes"] = torch.tensor([[side, side, 0, 0, side, side]] * len(x0), device=self.device)
        x_t = process.interpolate(x0, noise, t)

        def errors() -> PairErrors:
            return PairErrors.of(process.squared_error(family.predict(family.network, x_t, t, text), x0, noise, t))

        with weights(self.base.trained, self.reference):
            reference = errors()
        own = errors()
        terms = dpo_loss(own, reference, self.lessons.settings.beta)
        if levels is not None:
            levels.add(own.winner.detach().float(), process.level(random.t).to(own.winner))
        return share * terms["preference"], {name: term.detach() for name, term in terms.items()}
