"""Convolutions around the transformer, and on its text.

A patch of four pixels has to learn every shape at sixteen offsets; a convolution need not. Kin: HDiT (arXiv
2401.11605), U-ViT (arXiv 2209.12152), PixelDiT (arXiv 2511.20645). On the text a convolution tells words their
neighbours from the first step on, which attention has to learn: docs/journal.md has the figures.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SKIP = 0.4
"""Share of the noisy picture in the first prediction, before anything is learnt."""
TEXT_KERNEL = 9
"""Tokens that a convolution on the text sees: four to either side."""


class TextConvolutions(nn.Module):
    """`layers` times x + GELU(convolution(LayerNorm(x))): [B, L, C] -> [B, L, C]; padding counts as zero."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, TEXT_KERNEL, padding=TEXT_KERNEL // 2) for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, L, C], mask [B, L] bool -> [B, L, C]."""
        counts = mask[..., None].to(x.dtype)
        for layer in self.layers:
            normed = F.layer_norm(x, x.shape[-1:]) * counts
            x = x + F.gelu(layer(normed.transpose(1, 2))).transpose(1, 2)
        return x


class Residual(nn.Module):
    """Two 3 x 3 convolutions, modulated by the time between them, added to what came in: [B, C, H, W] -> the same."""

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(time_width, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, C, H, W], time [B, time_width] after SiLU."""
        shift, scale = self.modulation(time)[:, :, None, None].chunk(2, dim=1)
        return x + self.second(F.silu(torch.addcmul(shift, self.first(F.silu(self.norm(x))), 1 + scale)))


class Stem(nn.Module):
    """From pixels to tokens: at each of `channels` a residual, then a convolution to half the side.

    The sides halve len(channels) times, so tokens stand for patches of 2^len(channels) pixels.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, channels[0], 3, padding=1)
        self.residuals = nn.ModuleList(Residual(c, width) for c in channels)
        self.down = nn.ModuleList(
            nn.Conv2d(c, after, 3, stride=2, padding=1)
            for c, after in zip(channels, (*channels[1:], width), strict=True)
        )
        channels_last(self)

    def forward(self, x_t: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x_t [B, 3, H, W], time [B, C] -> tokens [B, N, C] row by row, and what `Decoder` adds in on the way back."""
        x, kept = self.enter(x_t.contiguous(memory_format=torch.channels_last)), []
        for residual, down in zip(self.residuals, self.down, strict=True):
            x = residual(x, time)
            kept.append(x)
            x = down(x)
        return x.flatten(2).transpose(1, 2), kept


class Decoder(nn.Module):
    """From tokens back to pixels: up by pixel shuffles, with the stem's pictures added in; begins as SKIP x_t."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        back = list(reversed(channels))
        self.up = nn.ModuleList(
            nn.Conv2d(before, 4 * c, 1) for before, c in zip([width, *back[:-1]], back, strict=True)
        )
        self.join = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for c in back)
        self.residuals = nn.ModuleList(Residual(c, width) for c in back)
        self.norm = nn.GroupNorm(1, channels[0])
        self.leave = nn.Conv2d(channels[0], 3, 3, padding=1)
        channels_last(self)

    def forward(self, tokens: Tensor, kept: list[Tensor], time: Tensor, x_t: Tensor) -> Tensor:
        """tokens [B, N, C], what the stem kept, time [B, C], x_t [B, 3, H, W] -> [B, 3, H, W]."""
        steps = 2 ** len(kept)
        rows, columns = (side // steps for side in x_t.shape[-2:])
        x = tokens.transpose(1, 2).unflatten(2, (rows, columns)).contiguous(memory_format=torch.channels_last)
        for up, join, residual, before in zip(self.up, self.join, self.residuals, reversed(kept), strict=True):
            x = F.pixel_shuffle(up(x), 2)
            x = residual(join(torch.cat([x, before], dim=1)), time)
        return self.leave(F.silu(self.norm(x))) + SKIP * x_t


def channels_last(module: nn.Module) -> None:
    """Lays the kernels of 2-D convolutions out with their channels last, which a CPU convolves twice as fast."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            m.weight.data = m.weight.data.contiguous(memory_format=torch.channels_last)
