"""Samplers: integrate dx/dt = v from t = 1 (noise) to t = 0 (a picture). Noise and times are arguments.

A step takes pictures x [B, 3, H, W] from their times `now` [B] to their times `then` [B]; each row may have its own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from daybreak.diffusion import flow
from daybreak.phases import advance
from daybreak.sampling.guidance import Denoiser

FLOOR = 1e-3
"""Floor of t in x0 -> v while sampling: no visited time but the last, where no velocity is needed, lies below it."""

Step = Callable[[Denoiser, Tensor, Tensor, Tensor], Tensor]


def euler_step(denoise: Denoiser, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """One prediction: along the velocity at `now`."""
    v = flow.velocity(x, denoise(x, now), now, FLOOR)
    return x + (then - now).view(-1, 1, 1, 1) * v


def heun_step(denoise: Denoiser, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Two predictions, but one in the last step (EDM, arXiv 2206.00364, algorithm 1 without churn)."""
    dt = (then - now).view(-1, 1, 1, 1)
    v = flow.velocity(x, denoise(x, now), now, FLOOR)
    guess = x + dt * v
    last = then <= 0
    if bool(last.all()):
        return guess
    mean = (v + flow.velocity(guess, denoise(guess, then), then, FLOOR)) / 2
    return torch.where(last.view(-1, 1, 1, 1), guess, x + dt * mean)


def euler(denoise: Denoiser, noise: Tensor, times: Tensor) -> Tensor:
    """noise [B, 3, H, W], times [S + 1] falling from 1 to 0 -> pictures [B, 3, H, W], by Euler's method."""
    return _integrate(euler_step, denoise, noise, times)


def heun(denoise: Denoiser, noise: Tensor, times: Tensor) -> Tensor:
    """noise [B, 3, H, W], times [S + 1] falling from 1 to 0 -> pictures [B, 3, H, W], by Heun's method."""
    return _integrate(heun_step, denoise, noise, times)


def _integrate(step: Step, denoise: Denoiser, x: Tensor, times: Tensor) -> Tensor:
    for now, then in pairwise(times.to(x)):
        x = step(denoise, x, now.expand(len(x)), then.expand(len(x)))
        advance(len(x) / (len(times) - 1))
    return x


STEPS: dict[str, Step] = {"euler": euler_step, "heun": heun_step}
SAMPLERS: dict[str, Callable[[Denoiser, Tensor, Tensor], Tensor]] = {"euler": euler, "heun": heun}
