"""Pictures drawn to be judged and learnt from: groups of a prompt, some steps of which are stochastic and are kept.

Flow-GRPO's pictures (arXiv 2505.05470), drawn as Flow-GRPO-Fast and MixGRPO (arXiv 2507.21802) do: only a few steps,
one after another, are stochastic and trained, the others follow the ordinary equation. Pictures of a group begin from
one noise, so that what tells them apart was decided in the steps that are kept, and the steps before are taken once for
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from daybreak.sampling.guidance import Denoiser
from daybreak.sampling.sampler import euler_step
from daybreak.sampling.stochastic import gaussian_step

Denoisers = Callable[[Sequence[str]], Denoiser]
"""Captions to a denoiser of as many pictures."""


@dataclass(frozen=True)
class Rollout:
    """G pictures of each of P prompts: the W stochastic steps that led to each, and what it was worth.

    states [P, G, W + 1, C, H, W]: before each step, and after the last. times [W + 1]: of the states. log_prob
    [P, G, W]: of each step when it was taken. rewards [P, G]: the judge's scores. advantages [P, G]: over the other
    pictures of the prompt.
    """

    states: Tensor
    times: Tensor
    log_prob: Tensor
    rewards: Tensor
    advantages: Tensor

    @classmethod
    def empty(cls, prompts: int, group: int, steps: int, shape: tuple[int, int, int]) -> Rollout:
        """Zeros of the shapes of one, to be filled from a checkpoint; shape: (C, H, W) of what is diffused."""
        states = torch.zeros(prompts, group, steps + 1, *shape)
        rewards = torch.zeros(prompts, group)
        return cls(states, torch.zeros(steps + 1), torch.zeros(prompts, group, steps), rewards, rewards.clone())

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def rows(self, rows: slice) -> Rollout:
        """Of some of the prompts."""
        return replace(self, **{k: v if k == "times" else v[rows] for k, v in self.tensors().items()})


@dataclass(frozen=True)
class Path:
    """How a rollout's pictures are drawn: times [S + 1] from 1 to 0; steps `first` to `first + length - 1` are
    stochastic, of the paper's noise level a; noise_scale: the model's."""

    times: Tensor
    first: int
    length: int
    level: float
    noise_scale: float


@torch.no_grad()
def roll_out(
    denoisers: Denoisers, captions: Sequence[str], group: int, path: Path, noise: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """`group` pictures of each of P captions, prompt by prompt, from noise [P, C, H, W] with its scale.

    Returns pictures [P * group, C, H, W], not cut to [-1, 1]; the states [P * group, length + 1, C, H, W] around the
    stochastic steps; and the steps' log-probabilities [P * group, length]. The steps' own noise is the generator's.
    """
    times, end = path.times.to(noise), path.first + path.length
    one, x = denoisers(captions), noise
    for k in range(path.first):
        x = euler_step(one, x, times[k].expand(len(x)), times[k + 1].expand(len(x)))
    each = denoisers([c for c in captions for _ in range(group)])
    x = x.repeat_interleave(group, dim=0)
    states, chances = [x], []
    for k in range(path.first, end):
        step = gaussian_step(
            each, x, times[k].expand(len(x)), times[k + 1].expand(len(x)), path.level, path.noise_scale
        )
        x = step.at(torch.randn(x.shape, generator=generator).to(x))
        states.append(x)
        chances.append(step.log_prob(x))
    for k in range(end, len(times) - 1):
        x = euler_step(each, x, times[k].expand(len(x)), times[k + 1].expand(len(x)))
    return x, torch.stack(states, dim=1), torch.stack(chances, dim=1)
