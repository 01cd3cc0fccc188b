"""Group-relative policy optimisation (GRPO, arXiv 2402.03300) of the steps of a sampler (arXiv 2505.05470, eq. 3-5)."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SPREAD = 1e-4
"""Added to a group's standard deviation: a group whose pictures are all as good teaches nothing."""


def group_advantages(rewards: Tensor) -> Tensor:
    """rewards [P, G], of G pictures for each of P prompts -> [P, G]: less the group's mean, over its spread (eq. 4)."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, correction=0, keepdim=True) + LEAST_SPREAD)


def clipped_loss(log_prob: Tensor, log_prob_then: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """[B]: -min(r A, clip(r, 1 - clip, 1 + clip) A), r the likelihood of a step over what it was when it was taken."""
    ratio = (log_prob - log_prob_then).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
