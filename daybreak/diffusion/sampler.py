"""Samplers: integrate dx/dt = v from t = 1 (noise) to t = 0 (a picture). Noise and times are arguments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from daybreak.diffusion import flow
from daybreak.diffusion.guidance import Denoiser

FLOOR = 1e-3
"""Floor of t in x0 -> v while sampling: no visited time but the last, where no velocity is needed, lies below it."""


def euler(denoise: Denoiser, noise: Tensor, times: Tensor) -> Tensor:
    """One prediction a step. noise [B, 3, H, W], times [S + 1] falling from 1 to 0 -> pictures [B, 3, H, W]."""
    x = noise
    for now, then in pairwise(times):
        t = now.to(x).expand(len(x))
        v = flow.velocity(x, denoise(x, t), t, FLOOR)
        x = x + (then - now).to(x) * v
    return x


def heun(denoise: Denoiser, noise: Tensor, times: Tensor) -> Tensor:
    """Two predictions a step, but one in the last (EDM, arXiv 2206.00364, algorithm 1 without churn)."""
    x = noise
    for now, then in pairwise(times):
        t, dt = now.to(x).expand(len(x)), (then - now).to(x)
        v = flow.velocity(x, denoise(x, t), t, FLOOR)
        guess = x + dt * v
        if then > 0:
            s = then.to(x).expand(len(x))
            v = (v + flow.velocity(guess, denoise(guess, s), s, FLOOR)) / 2
            guess = x + dt * v
        x = guess
    return x


SAMPLERS: dict[str, Callable[[Denoiser, Tensor, Tensor], Tensor]] = {"euler": euler, "heun": heun}
