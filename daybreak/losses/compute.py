"""The training loss as named terms."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from daybreak.diffusion import flow


def velocity_loss(predicted_x0: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, floor: float) -> Tensor:
    """Mean squared error in velocity space, per picture: [B, 3, H, W] -> [B].

    x-prediction with v-loss ("Back to Basics", arXiv 2511.13720, table 1): ||v(x0_hat) - v(x0)||^2, which weighs the
    pixel error by 1 / max(t, floor)^2. The reference velocity takes the same floor, so a perfect x0 has loss 0.
    """
    v = flow.velocity(x_t, predicted_x0.float(), t, floor)
    target = flow.velocity(x_t, x0, t, floor)
    return F.mse_loss(v, target, reduction="none").mean(dim=(1, 2, 3))
