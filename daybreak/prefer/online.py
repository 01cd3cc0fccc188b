"""Flow-GRPO (arXiv 2505.05470): the model draws, a judge scores, and the steps that led to better pictures than others
of the prompt become likelier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextEncoder
from daybreak.losses.grpo import clipped_loss, group_advantages
from daybreak.model.transformer import Transformer
from daybreak.prefer.prompts import PromptBatch, PromptSource
from daybreak.prefer.ranking import judged
from daybreak.prefer.rollout import Denoisers, Path, Rollout, roll_out
from daybreak.prefer.trainee import Preferring
from daybreak.sampling.generate import with_empty
from daybreak.sampling.guidance import Denoiser, classifier_free, conditional
from daybreak.sampling.stochastic import GaussianStep, gaussian_step
from daybreak.train.meters import NoiseLevels


@dataclass(frozen=True)
class Turn:
    """A step's part in a rollout: which of the stochastic steps it trains."""

    rollout: Rollout
    step: int

    def rows(self, rows: slice) -> Turn:
        """Of some of the prompts."""
        return Turn(self.rollout.rows(rows), self.step)


@dataclass
class Online(Preferring):
    """Each rollout serves one update for each of its stochastic steps, of which all but the first learn from what was
    drawn before the model moved. `rollout` is the one in use, and part of a checkpoint."""

    rollout: Rollout | None = field(default=None, kw_only=True)
    calmer = "a smaller --lr, or a larger --kl"
    smaller = "fewer --pictures"

    def open_source(self, index: int) -> PromptSource:
        """See `Trainee`. There is one stage; after a return to a checkpoint the noise is another."""
        lessons, side = self.lessons, self.config.data.resolution
        assert lessons is not None and lessons.ranking is not None and index == 0
        draw = self.draw_with(*self.frozen())
        return PromptSource(lessons.ranking.prompts, lessons.write_out, draw, side, self.settings.stochastic)

    def held(self) -> Rollout:
        """The rollout in use; before the first one, zeros."""
        if self.rollout is None:
            s, c = self.settings, self.config
            self.rollout = Rollout.empty(c.train.batch, s.pictures, s.stochastic, c.data.resolution)
        return self.rollout

    def tensors(self) -> dict[str, Tensor]:
        """See `Trainee`; and rollout.NAME."""
        return super().tensors() | {f"rollout.{k}": v for k, v in self.held().tensors().items()}

    def random(self, batch: Any, config: Config) -> Any:
        """A `Turn` for a `PromptBatch`: of a new rollout, drawn and judged, where the one before has served."""
        turn = self.step % self.settings.stochastic
        if turn == 0:
            self.rollout = self._roll_out(batch, config)
        return Turn(self.held(), turn)

    def _roll_out(self, batch: PromptBatch, config: Config) -> Rollout:
        s, d, lessons = self.settings, config.diffusion, self.lessons
        assert lessons is not None and lessons.ranking is not None
        latest = min(s.draw_steps - s.stochastic, s.draw_steps // 2)
        first = int(torch.randint(latest + 1, (), generator=self.generator))
        times = sampling_times(s.draw_steps, d.shift)
        path = Path(times, first, s.stochastic, s.noise, d.noise_scale)
        noise = d.noise_scale * torch.randn(batch.shape, generator=self.generator)
        denoisers = denoisers_of(self.transformer, self.text_encoder, self._guidance(), config)
        with self.autocast():
            pictures, states, log_prob = roll_out(
                denoisers, batch.captions, s.pictures, path, noise.to(self.device), self.generator
            )
        prompts = [p for p in batch.prompts for _ in range(s.pictures)]
        groups = (len(batch), s.pictures)
        rewards = judged(lessons.ranking.judge, pictures.float(), prompts).view(groups)
        advantages = group_advantages(rewards)
        return Rollout(
            states.unflatten(0, groups).float().cpu(), times[first : first + s.stochastic + 1],
            log_prob.unflatten(0, groups).float().cpu(), rewards.float(), advantages.float(),
        )  # fmt: skip

    def loss(
        self, batch: Any, random: Any, config: Config, progress: float, share: float,  # noqa: ARG002
        levels: NoiseLevels | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`; of a `PromptBatch` and its `Turn`, by losses/grpo.py."""
        s, r, k, device = self.settings, random.rollout, random.step, self.device
        captions = [c for c in batch.captions for _ in range(s.pictures)]
        x, after = (r.states[:, :, i].flatten(0, 1).to(device) for i in (k, k + 1))
        now, then = (r.times[i].to(device).expand(len(x)) for i in (k, k + 1))
        before, advantages = (v.flatten().to(device) for v in (r.log_prob[:, :, k], r.advantages))

        def step_of(transformer: Transformer, text_encoder: TextEncoder) -> GaussianStep:
            denoise = denoisers_of(transformer, text_encoder, self._guidance(), config)(captions)
            return gaussian_step(denoise, x, now, then, s.noise, config.diffusion.noise_scale)

        step = step_of(self.transformer, self.text_encoder)
        log_prob = step.log_prob(after)
        terms = {"policy": clipped_loss(log_prob, before, advantages, s.clip).mean()}
        loss = terms["policy"]
        if s.kl:
            with torch.no_grad():
                reference = step_of(*self.frozen())
            terms["kl"] = step.kl(reference).mean()
            loss = loss + s.kl * terms["kl"]
        terms["reward"] = r.rewards.mean()
        terms["clipped"] = (((log_prob - before).exp() - 1).abs() > s.clip).float().mean()
        return share * loss, {name: term.detach() for name, term in terms.items()}

    def _guidance(self) -> float:
        chosen = self.settings.guidance
        return self.config.sample.guidance if chosen is None else chosen


def denoisers_of(transformer: Transformer, text_encoder: TextEncoder, guidance: float, config: Config) -> Denoisers:
    """Captions to what denoises their pictures, guided by text."""
    interval = (config.sample.guidance_from, config.sample.guidance_to)

    def of(captions: Sequence[str]) -> Denoiser:
        if guidance == 1:
            return conditional(transformer, text_encoder(list(captions)))
        return classifier_free(transformer, *with_empty(text_encoder, list(captions)), guidance, interval)

    return of
