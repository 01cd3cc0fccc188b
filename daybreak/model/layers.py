"""The layers of the pixel transformer: embeddings, attention over image and text, gated MLP, the block."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daybreak.model.rope import rotate

NORM_EPS = 1e-6


def sinusoid(x: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding of scalars: [B] -> [B, width] float32, cosines first (DDPM, arXiv 2006.11239)."""
    half = width // 2
    frequency = torch.exp(-math.log(max_period) / half * torch.arange(half, dtype=torch.float32, device=x.device))
    angle = x.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, then x * (1 + scale) + shift (adaLN, DiT, arXiv 2212.09748).

    x [B, N, C]; shift and scale [B, 1, C].
    """
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention: q [B, H, N, D], k and v [B, H, M, D] -> [B, H, N, D].

    `mask` [B, 1, 1, M] is added to the logits: 0 where a key counts, -inf where it does not. On the CPU two plain
    matrix products beat the fused kernel at the sizes that are trained there (see docs/journal.md).
    """
    if q.device.type == "cpu":
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if mask is not None:
            logits = logits + mask
        return logits.softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class MLPEmbedder(nn.Module):
    """Two linear layers with SiLU between: [B, width_in] -> [B, width]."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width_in, width)
        self.second = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in] -> [B, width]."""
        return self.second(F.silu(self.first(x)))


class Attention(nn.Module):
    """Image tokens attend to image and text tokens; text enters as keys and values only.

    Queries and keys are RMS-normalised per head (QK-norm, arXiv 2302.05442); image queries and keys are rotated.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        head_dim = width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.text_kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_q = nn.RMSNorm(head_dim, eps=NORM_EPS)
        self.norm_k = nn.RMSNorm(head_dim, eps=NORM_EPS)
        self.norm_text_k = nn.RMSNorm(head_dim, eps=NORM_EPS)

    def forward(self, x: Tensor, text: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, N, C], text [B, L, C], cos and sin [N, D], mask [B, 1, 1, L + N] or None -> [B, N, C]."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # 3 x [B, H, N, D]
        text_k, text_v = self.text_kv(text).view(b, text.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q = rotate(self.norm_q(q), cos, sin)
        k = rotate(self.norm_k(k), cos, sin)
        k = torch.cat([self.norm_text_k(text_k), k], dim=2)  # [B, H, L + N, D]
        v = torch.cat([text_v, v], dim=2)
        return self.out(attend(q, k, v, mask).transpose(1, 2).reshape(b, n, c))


class GatedMLP(nn.Module):
    """down(gelu(gate(x)) * up(x)), GELU in its tanh form (GLU variants, arXiv 2002.05202): [B, N, C] -> [B, N, C]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.gelu(gate, approximate="tanh") * up)


class Block(nn.Module):
    """Attention, then the gated MLP, each modulated by the time embedding and added through a gate."""

    def __init__(self, width: int, heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = GatedMLP(width, mlp_hidden)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, text: Tensor, time: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, N, C], text [B, L, C], time [B, C] (after SiLU), the rest as in `Attention` -> [B, N, C]."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(time)[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate_a, self.attention(modulate(x, shift_a, scale_a), text, cos, sin, mask))
        return torch.addcmul(x, gate_m, self.mlp(modulate(x, shift_m, scale_m)))
