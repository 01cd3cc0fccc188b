"""Grounding: every word says where in the picture it belongs, and the picture's tokens listen to words of their place.

The logits of word and place are a product of two learnt vectors. They are a bias on the attention of image to text, and
where the data know the box of a phrase (data/batch.py) they are drawn to it (losses/grounding.py). Kin: GLIP's
word-region alignment (arXiv 2112.03857), attention held to segments (arXiv 2306.05427).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 8
MATCH_WIDTH = 64
LEAST_BIAS = -6.0
"""A word that belongs elsewhere is heard with e^-6 of its weight."""


def place_features(rows: int, columns: int, device: torch.device) -> Tensor:
    """Cosines and sines of each token's middle along both axes, half a wave over the picture and its multiples.

    [rows * columns, 4 * FREQUENCIES] float32, row by row; the same place has the same features at any resolution.
    """
    waves = math.pi * torch.arange(1, FREQUENCIES + 1, device=device)

    def axis(n: int) -> Tensor:
        angle = ((torch.arange(n, device=device) + 0.5) / n)[:, None] * waves
        return torch.cat([angle.cos(), angle.sin()], dim=-1)  # [n, 2 F]

    y, x = axis(rows)[:, None].expand(-1, columns, -1), axis(columns)[None].expand(rows, -1, -1)
    return torch.cat([y, x], dim=-1).reshape(rows * columns, -1)


class Grounding(nn.Module):
    """Logits of whether a word belongs to a place."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        self.words = nn.Linear(text_width, MATCH_WIDTH)
        self.places = nn.Linear(4 * FREQUENCIES, MATCH_WIDTH)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, text: Tensor, places: Tensor) -> Tensor:
        """text [B, L, text_width], places [N, 4 F] -> logits [B, L, N] float32."""
        match = self.words(text) @ (2 * self.places(places)).T
        return (match * MATCH_WIDTH**-0.5 + self.bias).float()


def attention_bias(logits: Tensor, mask: Tensor | None) -> Tensor:
    """What attention of image to [text, image] adds to its logits: [B, L, N] -> [B, 1, N, L + N].

    mask: what it would add anyway, [B, 1, 1, L + N].
    """
    bias = F.logsigmoid(logits).clamp(min=LEAST_BIAS).transpose(1, 2)[:, None]
    bias = F.pad(bias, (0, logits.shape[2]))
    return bias if mask is None else bias + mask
