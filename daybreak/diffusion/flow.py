"""The straight path between data and noise, and the one place that converts x0 to velocity and back.

x_t = (1 - t) x0 + t s eps, with s the noise scale. The velocity is v = (x_t - x0) / max(t, floor): the true one,
s eps - x0, wherever t >= floor ("Back to Basics", arXiv 2511.13720, which floors the same division).
"""

from __future__ import annotations

from torch import Tensor


def interpolate(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t: x0 and noise [B, 3, H, W], t [B]. `noise` already has its scale."""
    t = t.view(-1, 1, 1, 1)
    return (1 - t) * x0 + t * noise


def velocity(x_t: Tensor, x0: Tensor, t: Tensor, floor: float) -> Tensor:
    """dx/dt along the path that leads from `x0` through `x_t`: [B, 3, H, W]."""
    return (x_t - x0) / t.clamp(min=floor).view(-1, 1, 1, 1)


def to_x0(x_t: Tensor, v: Tensor, t: Tensor, floor: float) -> Tensor:
    """The inverse of `velocity`: [B, 3, H, W]."""
    return x_t - t.clamp(min=floor).view(-1, 1, 1, 1) * v
