"""A detail head: convolutions at the full side that add to the transformer's picture what patches leave out.

A token draws its patch alone, and by one matrix. The head sees the noisy picture across the patches' edges, and is told
by each token what to make of it there. DiP (arXiv 2511.18822) has such a head in every patch, a U-Net; DeCo (arXiv
2511.19365) modulates a decoder of pixels without attention by the transformer's tokens. Here are fewer channels, no
smaller sides, and convolutions that reach over patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daybreak.model.convolutions import channels_last

RESIDUALS = 2
"""Of a head; with the first and the last convolution a pixel sees 6 others to either side."""


class Detail(nn.Module):
    """What is added to the transformer's picture; nothing at first, by the zeros of the last convolution.

    `channels` at the full side, `width` of the transformer's tokens, `patch` the side of what a token draws, px.
    """

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.enter = nn.Conv2d(6, channels, 3, padding=1)
        self.residuals = nn.ModuleList(PlacedResidual(channels) for _ in range(RESIDUALS))
        self.modulation = nn.Linear(width, 2 * RESIDUALS * channels)  # a shift and a scale for each
        self.leave = nn.Conv2d(channels, 3, 3, padding=1)
        channels_last(self)

    def forward(self, x_t: Tensor, coarse: Tensor, tokens: Tensor) -> Tensor:
        """x_t and the transformer's picture `coarse` [B, 3, H, W], its last tokens [B, N, C] -> [B, 3, H, W]."""
        rows, columns = (side // self.patch for side in x_t.shape[-2:])
        told = self.modulation(tokens).transpose(1, 2).unflatten(2, (rows, columns))  # [B, 4 c, rows, columns]
        x = torch.cat([x_t, coarse], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.enter(x)  # [B, c, H, W]
        for residual, part in zip(self.residuals, told.chunk(RESIDUALS, dim=1), strict=True):
            shift, scale = part.chunk(2, dim=1)
            x = residual(x, over_pixels(shift, self.patch), over_pixels(1 + scale, self.patch))
        return self.leave(F.silu(x))


class PlacedResidual(nn.Module):
    """Two 3 x 3 convolutions, modulated at every pixel between them, added to what came in: [B, C, H, W] -> the same.

    Without norms: two in a row do not grow, and in bfloat16 a norm takes a CPU as long as a convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
        """x + second(silu(factor * first(silu(x)) + shift)); all are [B, C, H, W]."""
        return x + self.second(F.silu(torch.addcmul(shift, self.first(F.silu(x)), factor)))


def over_pixels(x: Tensor, patch: int) -> Tensor:
    """[B, C, rows, columns] -> [B, C, rows patch, columns patch]: each token's values at all pixels of its patch."""
    return F.interpolate(x.contiguous(memory_format=torch.channels_last), scale_factor=patch, mode="nearest")
