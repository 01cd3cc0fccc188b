"""The variance-preserving path of Stable Diffusion, with the verbs of flow.py: interpolate, velocity, to_x0.

x_t = sqrt(abar) x0 + sqrt(1 - abar) eps, with abar falling from 1 (data) to 0 (noise) over the steps of a discrete
process (DDPM, arXiv 2006.11239, eq. 4). Tensors are [B, C, H, W], abar [B].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Predicts = Literal["epsilon", "v_prediction"]


def interpolate(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """x_t."""
    signal, sigma = _scales(abar)
    return signal * x0 + sigma * noise


def velocity(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans & Ho, arXiv 2202.00512, appendix D)."""
    signal, sigma = _scales(abar)
    return signal * noise - sigma * x0


def to_x0(x_t: Tensor, prediction: Tensor, abar: Tensor, predicts: Predicts) -> Tensor:
    """The clean picture that a prediction of the noise or of v implies; of noise it needs abar above 0."""
    signal, sigma = _scales(abar)
    if predicts == "v_prediction":
        return signal * x_t - sigma * prediction
    return (x_t - sigma * prediction) / signal


def snr(abar: Tensor) -> Tensor:
    """Signal-to-noise ratio abar / (1 - abar)."""
    return abar / (1 - abar)


def min_snr_weight(abar: Tensor, gamma: float, predicts: Predicts) -> Tensor:
    """[B] weights of the squared error: min(snr, gamma) / snr for noise, / (snr + 1) for v (arXiv 2303.09556)."""
    ratio = snr(abar)
    return ratio.clamp(max=gamma) / (ratio + 1 if predicts == "v_prediction" else ratio)


def zero_terminal_snr(abar: Tensor) -> Tensor:
    """abar [T] of a schedule, shifted and scaled in its root so that the last step is pure noise.

    Algorithm 1 of arXiv 2305.08891; the first step stays as it is.
    """
    root = abar.sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * first / (first - last)).square()


def _scales(abar: Tensor) -> tuple[Tensor, Tensor]:
    abar = abar.view(-1, 1, 1, 1)
    return torch.sqrt(abar), torch.sqrt(1 - abar)
