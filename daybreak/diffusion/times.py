"""Which noise levels training sees, and which ones sampling visits."""

from __future__ import annotations

import torch
from torch import Tensor


def shift_time(t: Tensor, shift: float) -> Tensor:
    """Moves times towards noise: s t / (1 + (s - 1) t) (SD 3, arXiv 2403.03206, eq. 23). shift = 1 changes nothing."""
    return shift * t / (1 + (shift - 1) * t)


def sample_times(n: int, shift: float, generator: torch.Generator, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """[n] training times in (0, 1): logit-normal of `mean` and `std`, then shifted towards noise."""
    return shift_time(torch.sigmoid(mean + std * torch.randn(n, generator=generator)), shift)


def sampling_times(steps: int, shift: float) -> Tensor:
    """[steps + 1] times from 1 down to 0 for a sampler: even, then shifted towards noise."""
    return shift_time(torch.linspace(1, 0, steps + 1), shift)
