"""How fast the machine multiplies matrices, by which a track's clock is normalised."""

from __future__ import annotations

import torch

from daybreak.train.meters import matmul_rate
from daybreak.train.precision import multiplies_bfloat16

SAMPLES = 20


def rate(device: torch.device) -> float:
    """FLOP/s of large products in the fastest precision that training would use here: the most of twenty samples.

    Whatever precision the run has: a slower one must not make the machine look slow. The most, since other work on the
    machine can only make a sample slower.
    """
    return max(matmul_rate(multiplies_bfloat16(device), device) for _ in range(SAMPLES))
