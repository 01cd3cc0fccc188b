"""Sampling with noise in every step, so that each step has a likelihood (Flow-GRPO, arXiv 2505.05470, section 4.2).

The stochastic equation whose solutions are distributed at every t as those of dx/dt = v (there eq. 8; time falls from
1, noise, to 0, as here, so dt < 0):

    dx = [v + sigma^2 / (2 t s^2) (x + (1 - t) v)] dt + sigma dw,    sigma = a s sqrt(t / (1 - t))

with s the scale of the noise, 1 in the paper. x + (1 - t) v is the noise that the prediction implies, and that over
-t s^2 the score. sigma of this form makes the factor of the bracket's second term a^2 / (2 (1 - t)). a = 0 leaves
Euler's method, to the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from daybreak.diffusion import flow
from daybreak.sampling.guidance import Denoiser
from daybreak.sampling.sampler import FLOOR


@dataclass(frozen=True)
class GaussianStep:
    """Where a step leads: independent normal numbers of `mean` [B, 3, H, W] and standard deviation `std` [B]."""

    mean: Tensor
    std: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """The state [B, 3, H, W] that standard normal `noise` of the same shape leads to."""
        return self.mean + self._column * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """[B]: the log-density of `x` [B, 3, H, W], as a mean over a picture's numbers.

        A mean, as in the authors' code, so that a clip range means the same for pictures of every size.
        """
        squared = ((x - self.mean) / self._column).square()
        return -0.5 * (squared.mean(dim=(1, 2, 3)) + math.log(2 * math.pi)) - self.std.log()

    def kl(self, reference: GaussianStep) -> Tensor:
        """[B]: KL(self || reference) of two steps of one standard deviation, as a mean over a picture's numbers."""
        return ((self.mean - reference.mean) / self._column).square().mean(dim=(1, 2, 3)) / 2

    @property
    def _column(self) -> Tensor:
        return self.std.view(-1, 1, 1, 1)


def gaussian_step(
    denoise: Denoiser, x: Tensor, now: Tensor, then: Tensor, level: float, noise_scale: float
) -> GaussianStep:
    """One step of the equation's Euler–Maruyama method, x [B, 3, H, W] from times `now` [B] to `then` [B].

    level: the paper's a. noise_scale: s. At t = 1, where sigma has no bound, 1 - t is taken at `then`, as in theirs.
    """
    v = flow.velocity(x, denoise(x, now), now, FLOOR)
    signal = torch.where(now < 1, 1 - now, 1 - then)  # [B]
    toward_noise = (x + (1 - now).view(-1, 1, 1, 1) * v) * (level**2 / (2 * signal)).view(-1, 1, 1, 1)
    mean = x + (then - now).view(-1, 1, 1, 1) * (v + toward_noise)
    return GaussianStep(mean, level * noise_scale * (now / signal * (now - then)).sqrt())
