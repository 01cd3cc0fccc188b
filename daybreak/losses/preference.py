"""Learning from pairs of which one picture is preferred: Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908).

Direct preference optimisation takes the model itself for a reward: how much more likely it makes a picture than a
frozen reference does. Of a diffusion model that is how much less it errs than the reference at the picture with noise
added (eq. 14 there). With flow matching the error is that of the velocity (Flow-DPO, arXiv 2501.13918, section 4, with
a constant beta, which they find to be best); where a network predicts noise or v, that of what it predicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairErrors:
    """Squared errors [B] of both pictures of B pairs at the same noise and noise level, means over their values."""

    winner: Tensor
    loser: Tensor

    @classmethod
    def of(cls, both: Tensor) -> PairErrors:
        """From those of all winners, then of all losers, [2 B]."""
        return cls(*both.chunk(2))


def rewards(errors: PairErrors, reference: PairErrors, beta: float) -> tuple[Tensor, Tensor]:
    """The implicit reward of winners and of losers, each [B]: -beta / 2 (error - the reference's)."""
    return (
        -0.5 * beta * (errors.winner - reference.winner),
        -0.5 * beta * (errors.loser - reference.loser),
    )


def dpo_loss(errors: PairErrors, reference: PairErrors, beta: float) -> dict[str, Tensor]:
    """Terms by name, scalars that are means over the pairs; "preference" is the loss, and alone has a gradient.

    preference = -log sigma(r_w - r_l), log 2 where model and reference agree. told_apart: the share of pairs whose
    winner has the higher reward; margin: r_w - r_l; winner, loser: how far the errors are from the reference's.
    """
    winner, loser = rewards(errors, reference, beta)
    margin = winner - loser
    with torch.no_grad():
        figures = {
            "told_apart": ((margin > 0).float() + 0.5 * (margin == 0).float()).mean(),
            "margin": margin.mean(),
            "winner": (errors.winner - reference.winner).mean(),
            "loser": (errors.loser - reference.loser).mean(),
        }
    return {"preference": -F.logsigmoid(margin).mean(), **figures}
