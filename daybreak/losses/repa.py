"""Representation alignment: the features of a middle block are drawn to a vision teacher's.

REPA (arXiv 2410.06940): 1 - cosine between projected tokens and the teacher's patch features. iREPA (arXiv 2512.10794):
a convolution as projector, and the teacher's features normalised over the picture, both of which stress where things
are rather than what the picture is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daybreak.config import AlignmentConfig
from daybreak.losses.feature_distance import feature_distance
from daybreak.model.routing import take


class Projector(nn.Module):
    """Tokens of width C -> features of the teacher's width."""

    def __init__(self, width: int, teacher_width: int, config: AlignmentConfig) -> None:
        super().__init__()
        self.conv = config.projector == "conv"
        hidden = config.projector_width
        self.layers: nn.Module = (
            nn.Conv2d(width, teacher_width, 3, padding=1)
            if self.conv
            else nn.Sequential(
                nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, teacher_width),
            )
        )  # fmt: skip

    def forward(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """[B, K, C] -> [B, K, teacher_width]; the convolution needs all tokens, K = rows * columns."""
        if not self.conv:
            return self.layers(tokens)
        grid = tokens.transpose(1, 2).unflatten(2, (rows, columns))
        return self.layers(grid).flatten(2).transpose(1, 2)


def spatially_normalised(features: Tensor) -> Tensor:
    """Each channel with mean 0 and deviation 1 over the picture's patches (iREPA): [B, N, C] -> [B, N, C]."""
    features = features.float()
    features = features - features.mean(1, keepdim=True)
    return features / (features.std(1, keepdim=True) + 1e-6)


def alignment_loss(projected: Tensor, teacher: Tensor, visible: Tensor | None) -> Tensor:
    """1 - cosine, mean over the tokens that were there: projected [B, K, C], teacher [B, N, C] -> [B] in [0, 2]."""
    if visible is not None:
        teacher = take(teacher, visible)
    return feature_distance(projected, teacher)


@torch.no_grad()
def teacher_target(features: Tensor, config: AlignmentConfig) -> Tensor:
    """What the projector is to reach: the teacher's features, normalised over the picture for the convolution."""
    return spatially_normalised(features) if config.projector == "conv" else features.float()
