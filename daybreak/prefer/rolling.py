"""Flow-GRPO (arXiv 2505.05470), whatever model learns: it draws, a judge scores, and the steps that led to better
pictures than others of the prompt become likelier."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.losses.grpo import clipped_loss, group_advantages
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.prompts import PromptBatch, PromptSource
from daybreak.prefer.ranking import Draw, judged
from daybreak.prefer.rollout import Denoisers, Path, Rollout, roll_out
from daybreak.sampling.stochastic import GaussianStep, gaussian_step
from daybreak.train.meters import NoiseLevels
from daybreak.train.trainee import Trainee


@dataclass(frozen=True)
class Turn:
    """A step's part in a rollout: which of the stochastic steps it trains."""

    rollout: Rollout
    step: int

    def rows(self, rows: slice) -> Turn:
        """Of some of the prompts."""
        return Turn(self.rollout.rows(rows), self.step)


@dataclass(frozen=True)
class Canvas:
    """What a picture is drawn on: noise of `shape` (C, H, W) and standard deviation `scale`; side: of the picture, px;
    times [S + 1] from 1 to 0: those that are visited."""

    shape: tuple[int, int, int]
    scale: float
    side: int
    times: Tensor


@dataclass
class Rolling(Trainee):
    """Each rollout serves one update for each of its stochastic steps, of which all but the first learn from what was
    drawn before the model moved. `rollout` is the one in use, and part of a checkpoint."""

    rollout: Rollout | None = field(default=None, kw_only=True)
    calmer = "a smaller --lr, or a larger --kl"
    smaller = "fewer --pictures"
    most: ClassVar[int | None] = None
    """Pictures that are drawn together; none: all of a rollout."""

    @abstractmethod
    def taught(self) -> Lessons:
        """With a ranking, whose judge scores what is drawn."""

    @abstractmethod
    def canvas(self) -> Canvas:
        """The same for all pictures."""

    @abstractmethod
    def denoisers(self) -> Denoisers:
        """With the weights that are in place."""

    @abstractmethod
    def as_reference(self) -> AbstractContextManager[Denoisers]:
        """Within, those with the reference's weights."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """What was drawn on the canvas [B, C, H, W] as pictures [B, 3, S, S] in [-1, 1]."""

    @abstractmethod
    def draw_before(self) -> Draw:
        """Draws as the model was."""

    def open_source(self, index: int) -> PromptSource:
        """See `Trainee`. There is one stage; after a return to a checkpoint the noise is another."""
        lessons = self.taught()
        assert lessons.ranking is not None and index == 0
        repeats = lessons.settings.stochastic
        return PromptSource(lessons.ranking.prompts, lessons.write_out, self.draw_before(), self.canvas().side, repeats)

    def held(self) -> Rollout:
        """The rollout in use; before the first one, zeros."""
        if self.rollout is None:
            s = self.taught().settings
            self.rollout = Rollout.empty(s.batch, s.pictures, s.stochastic, self.canvas().shape)
        return self.rollout

    def rolled(self) -> dict[str, Tensor]:
        """Beside the model's tensors: rollout.NAME."""
        return {f"rollout.{k}": v for k, v in self.held().tensors().items()}

    def random(self, batch: Any, config: Config) -> Any:  # noqa: ARG002
        """A `Turn` for a `PromptBatch`: of a new rollout, drawn and judged, where the one before has served."""
        turn = self.step % self.taught().settings.stochastic
        if turn == 0:
            self.rollout = self._roll_out(batch)
        return Turn(self.held(), turn)

    def _roll_out(self, batch: PromptBatch) -> Rollout:
        lessons, canvas = self.taught(), self.canvas()
        s, ranking = lessons.settings, lessons.ranking
        assert ranking is not None
        latest = min(s.draw_steps - s.stochastic, s.draw_steps // 2)
        first = int(torch.randint(latest + 1, (), generator=self.generator))
        path = Path(canvas.times, first, s.stochastic, s.noise, canvas.scale)
        noise = canvas.scale * torch.randn(len(batch), *canvas.shape, generator=self.generator)
        each = len(batch) if self.most is None else max(1, self.most // s.pictures)
        found = []
        for i in range(0, len(batch), each):
            with self.autocast(), torch.no_grad():
                x, states, log_prob = roll_out(
                    self.denoisers(), batch.captions[i : i + each], s.pictures, path,
                    noise[i : i + each].to(self.device), self.generator,
                )  # fmt: skip
                pictures = self.decode(x).float()
            prompts = [p for p in batch.prompts[i : i + each] for _ in range(s.pictures)]
            found.append((states.float().cpu(), log_prob.float().cpu(), judged(ranking.judge, pictures, prompts)))
        groups = (len(batch), s.pictures)
        states, log_prob, rewards = (torch.cat(parts).unflatten(0, groups) for parts in zip(*found, strict=True))
        times = canvas.times[first : first + s.stochastic + 1]
        return Rollout(states, times, log_prob, rewards.float(), group_advantages(rewards).float())

    def loss(
        self, batch: Any, random: Any, config: Config, progress: float, share: float,  # noqa: ARG002
        levels: NoiseLevels | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`; of a `PromptBatch` and its `Turn`, by losses/grpo.py."""
        s, scale = self.taught().settings, self.canvas().scale
        r, k, device = random.rollout, random.step, self.device
        captions = [c for c in batch.captions for _ in range(s.pictures)]
        x, after = (r.states[:, :, i].flatten(0, 1).to(device) for i in (k, k + 1))
        now, then = (r.times[i].to(device).expand(len(x)) for i in (k, k + 1))
        before, advantages = (v.flatten().to(device) for v in (r.log_prob[:, :, k], r.advantages))

        def step_of(denoisers: Denoisers) -> GaussianStep:
            return gaussian_step(denoisers(captions), x, now, then, s.noise, scale)

        reference = None
        if s.kl:
            with torch.no_grad(), self.as_reference() as denoisers:
                reference = step_of(denoisers)
        step = step_of(self.denoisers())
        log_prob = step.log_prob(after)
        terms = {"policy": clipped_loss(log_prob, before, advantages, s.clip).mean()}
        loss = terms["policy"]
        if reference is not None:
            terms["kl"] = step.kl(reference).mean()
            loss = loss + s.kl * terms["kl"]
        terms["reward"] = r.rewards.mean()
        terms["clipped"] = (((log_prob - before).exp() - 1).abs() > s.clip).float().mean()
        return share * loss, {name: term.detach() for name, term in terms.items()}
