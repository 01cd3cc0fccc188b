"""How far features are from a teacher's: what alignment and the DINO loss have in common."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from daybreak.cpu import functions, kernels


def feature_distance(predicted: Tensor, true: Tensor) -> Tensor:
    """1 - cosine between patch features, mean over patches, in float32: [B, N, C] each -> [B] in [0, 2].

    The gradient goes to `predicted` alone. On a CPU torch's own takes nine passes over memory for it, the kernel two.
    """
    predicted, true = predicted.float(), true.detach().float()
    if kernels.in_training(predicted):
        return 1 - functions.Cosine.apply(predicted, true).mean(1)
    return 1 - F.cosine_similarity(predicted, true, dim=-1).mean(1)
