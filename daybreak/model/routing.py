"""Token routing: which image tokens stay, taking them out, and putting the others back.

TREAD (arXiv 2501.04765): in training, a random share of the tokens skips the middle blocks and returns as it left.
SPRINT (arXiv 2510.21986): it returns as a learned token, and a linear layer fuses the result with what all tokens were
when they parted. Indices are drawn from the step's generator and passed in, so a step can be repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daybreak.config import RoutingConfig


def sample_visible(batch: int, tokens: int, keep: float, generator: torch.Generator) -> Tensor | None:
    """Which tokens of each picture stay: [batch, K] int64, ascending, K = round(keep * tokens), at least 1.

    None, and no number drawn, where all stay (keep = 1).
    """
    kept = max(1, round(keep * tokens))
    if kept >= tokens:
        return None
    order = torch.rand(batch, tokens, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values


def take(x: Tensor, visible: Tensor) -> Tensor:
    """The visible tokens: x [B, N, C], visible [B, K] -> [B, K, C]."""
    return x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))


def put_back(kept: Tensor, waiting: Tensor, visible: Tensor) -> Tensor:
    """`waiting` [B, N, C] with the tokens `kept` [B, K, C] at their places `visible` [B, K] -> [B, N, C]."""
    return waiting.scatter(1, visible[..., None].expand_as(kept), kept.to(waiting.dtype))


class Fusion(nn.Module):
    """SPRINT's return: [tokens before the middle blocks, tokens after them or a learned one] -> linear -> tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.absent = nn.Parameter(torch.zeros(width))
        self.fuse = nn.Linear(2 * width, width)

    def forward(self, kept: Tensor, before: Tensor, visible: Tensor | None, dropped: Tensor | None) -> Tensor:
        """kept [B, K, C], before [B, N, C], visible [B, K] or None (all) -> [B, N, C].

        dropped [B] bool or None: pictures whose middle blocks count as absent in whole (path drop).
        """
        absent = self.absent.to(kept.dtype).expand_as(before)
        deep = kept if visible is None else put_back(kept, absent, visible)
        if dropped is not None:
            deep = torch.where(dropped[:, None, None], absent, deep)
        return self.fuse(torch.cat([before.to(deep.dtype), deep], dim=-1))


def returns_before(config: RoutingConfig, depth: int) -> int:
    """Number of blocks after which the tokens return."""
    return depth - 1 if config.end is None else config.end
