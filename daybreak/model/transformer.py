"""The pixel transformer of the speedrun: noisy pixels in, clean pixels out.

Facts: patches of p x p RGB pixels pass a linear bottleneck into tokens; every block lets image tokens attend to image
and text; a time embedding modulates every block; the last layer gives the clean patch (x-prediction, "Back to Basics",
arXiv 2511.13720). With the same weights it computes what diffusers' `PRXTransformer2DModel` computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daybreak.config import ConfigError, ModelConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.layers import Block, MLPEmbedder, modulate, sinusoid
from daybreak.model.rope import axial_angles, rotation

TIME_WIDTH = 256
"""Width of the sinusoid in front of the time embedding."""
TIME_FACTOR = 1000.0
"""Times in [0, 1] are multiplied by this before the sinusoid."""


@dataclass(frozen=True)
class Prediction:
    """What the transformer gives back. x0: the clean picture, [B, 3, H, W], not clamped."""

    x0: Tensor


class Transformer(nn.Module):
    """The pixel transformer.

    `config` holds its dimensions, `text_width` the width of the text tokens that it will be given.
    Raises ConfigError where the dimensions do not fit each other.
    """

    def __init__(self, config: ModelConfig, text_width: int) -> None:
        super().__init__()
        c = config
        if c.width % c.heads or (c.width // c.heads) % 4:
            raise ConfigError(
                f"model.width {c.width} with model.heads {c.heads} gives heads of {c.width / c.heads:g} channels; "
                "two-axis RoPE needs a multiple of 4"
            )
        self.config = c
        patch_values = 3 * c.patch**2
        self.patch_embedding = (
            nn.Sequential(nn.Linear(patch_values, c.bottleneck), nn.Linear(c.bottleneck, c.width))
            if c.bottleneck
            else nn.Linear(patch_values, c.width)
        )
        self.time_embedding = MLPEmbedder(TIME_WIDTH, c.width)
        self.size_embedding = MLPEmbedder(TIME_WIDTH, c.width) if c.size_conditioning else None
        self.text_embedding = nn.Linear(text_width, c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads, int(c.width * c.mlp_ratio)) for _ in range(c.depth))
        self.final_modulation = nn.Linear(c.width, 2 * c.width)
        self.final = nn.Linear(c.width, patch_values)
        self.init_weights()

    def init_weights(self) -> None:
        """All initial values, in this one place.

        Linear layers: Xavier uniform, zero bias. The last layer: zero, so the first prediction is grey. Modulation:
        zero but for the gates' bias, 1: blocks are open from the start, and begin as the identity through the zero
        matrices that end their two halves. (The published start, all gates at zero, takes longer to open them.)
        The patch embedding's bias is random: every block normalises its tokens, so without a fixed part in them the
        brightness of a patch is invisible at first. docs/journal.md has the figures.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                if name.endswith("modulation"):
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.RMSNorm):
                nn.init.ones_(module.weight)
        nn.init.zeros_(self.final.weight)
        last = self.patch_embedding[-1] if isinstance(self.patch_embedding, nn.Sequential) else self.patch_embedding
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.mlp.down.weight)
            with torch.no_grad():
                for gate in (2, 5):  # of shift, scale, gate, twice
                    block.modulation.bias.view(6, -1)[gate] = 1

    def forward(self, x_t: Tensor, t: Tensor, text: TextTokens) -> Prediction:
        """x_t [B, 3, H, W], t [B] in [0, 1] (1 is noise), text tokens [B, L, text_width] with their mask.

        H and W are divisible by the patch size (ValueError otherwise).
        """
        rows, columns = self._grid(x_t)
        x = self.patch_embedding(patchify(x_t, self.config.patch))  # [B, N, C]
        words = self.text_embedding(text.embeddings)  # [B, L, C]
        time = F.silu(self.embed_time(t, x_t))  # [B, C]
        angles = axial_angles(rows, columns, self.config.width // self.config.heads, self.config.rope_theta, x.device)
        cos, sin = rotation(angles)  # [N, D]
        mask = key_mask(text.mask, rows * columns)  # [B, 1, 1, L + N]
        for block in self.blocks:
            x = block(x, words, time, cos, sin, mask)
        shift, scale = self.final_modulation(time)[:, None].chunk(2, dim=-1)
        patches = self.final(modulate(x, shift, scale))  # [B, N, 3 p p]
        return Prediction(x0=unpatchify(patches, self.config.patch, rows, columns))

    def embed_time(self, t: Tensor, x_t: Tensor) -> Tensor:
        """[B] times -> [B, C]; with size conditioning, the picture's height and width are added in."""
        time = self.time_embedding(sinusoid(TIME_FACTOR * t, TIME_WIDTH))
        if self.size_embedding is None:
            return time
        sides = torch.tensor(x_t.shape[-2:], dtype=torch.float32, device=x_t.device)
        return time + self.size_embedding(sinusoid(sides, TIME_WIDTH // 2).reshape(1, TIME_WIDTH))

    def _grid(self, x_t: Tensor) -> tuple[int, int]:
        h, w = x_t.shape[-2:]
        p = self.config.patch
        if h % p or w % p:
            raise ValueError(f"a picture of {w}x{h} px does not divide into patches of {p} px")
        return h // p, w // p


def patchify(x: Tensor, p: int) -> Tensor:
    """[B, 3, H, W] -> [B, (H / p)(W / p), 3 p p]; tokens row by row, values channel by channel."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)  # [B, H/p, W/p, 3, p, p]
    return x.reshape(b, (h // p) * (w // p), c * p * p)


def unpatchify(patches: Tensor, p: int, rows: int, columns: int) -> Tensor:
    """[B, rows * columns, 3 p p] -> [B, 3, rows p, columns p]: the inverse of `patchify`."""
    b = patches.shape[0]
    x = patches.view(b, rows, columns, 3, p, p).permute(0, 3, 1, 4, 2, 5)  # [B, 3, rows, p, columns, p]
    return x.reshape(b, 3, rows * p, columns * p)


def key_mask(text_mask: Tensor, image_tokens: int) -> Tensor | None:
    """Text mask [B, L] bool -> what attention adds to its logits [B, 1, 1, L + N]; None where nothing is masked."""
    if bool(text_mask.all()):
        return None
    b, length = text_mask.shape
    bias = torch.zeros(b, length + image_tokens, device=text_mask.device)
    bias[:, :length].masked_fill_(~text_mask, float("-inf"))
    return bias[:, None, None]
