"""Blocks in which text and image attend to each other, and blocks on the text alone (MM-DiT, MiniT2I).

Two streams after MM-DiT (SD 3, arXiv 2403.03206), each modulated by the time; or without any modulation and with
RMSNorm before each half: a network that sees the noisy picture can tell the noise level itself, and the parameters buy
depth (MiniT2I, 2026). SiLU in the gated MLP, 1-D RoPE on text and 2-D RoPE on image tokens, QK-norm per head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daybreak.attention import attend, attention_shares
from daybreak.model.layers import NORM_EPS, GatedMLP, Modulation, add_gated, add_modulate, modulate
from daybreak.model.rope import norm_rotate, rms_norm


class Stream(nn.Module):
    """One stream's own half of a block: norms, projections and MLP. The attention between streams is the block's.

    `modulation`: as a `Block` has it (layers.py).
    """

    def __init__(self, width: int, heads: int, mlp_hidden: int, modulation: str = "none") -> None:
        super().__init__()
        self.heads = heads
        self.modulation = Modulation(width, modulation == "shared") if modulation != "none" else None
        self.norm_a = nn.RMSNorm(width, eps=NORM_EPS) if modulation == "none" else None
        self.norm_m = nn.RMSNorm(width, eps=NORM_EPS) if modulation == "none" else None
        self.attention_qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp = GatedMLP(width, mlp_hidden, silu=True)

    def modulated(self, time: Tensor | None) -> tuple[Tensor, ...] | None:
        """Shift, scale and gate of the two halves by `time`, as `Modulation` takes it; None without modulation."""
        if self.modulation is None:
            return None
        assert time is not None
        return self.modulation(time)

    def heads_of(self, x: Tensor, by: tuple[Tensor, ...] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, N, C], what `modulated` gave -> queries, keys, values, each [B, H, N, D]."""
        b, n, _ = x.shape
        if by is None:
            assert self.norm_a is not None
            normed = rms_norm(x, self.norm_a.weight, NORM_EPS)
        else:
            normed = modulate(x, by[0], by[1])
        q, k, v = self.attention_qkv(normed).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k, v

    def finish(self, x: Tensor, attended: Tensor, by: tuple[Tensor, ...] | None = None) -> Tensor:
        """x [B, N, C] with what its queries gathered [B, H, N, D], then through the MLP -> [B, N, C]."""
        gathered = self.attention_out(attended.transpose(1, 2).flatten(2))
        if by is None:
            assert self.norm_m is not None
            x = x + gathered
            return x + self.mlp(rms_norm(x, self.norm_m.weight, NORM_EPS))
        _, _, gate_a, shift_m, scale_m, gate_m = by
        x, normed = add_modulate(x, gate_a, gathered, shift_m, scale_m)
        return add_gated(x, gate_m, self.mlp(normed))


class TextBlock(nn.Module):
    """A transformer block on the text alone: adapts a frozen encoder's tokens to drawing."""

    def __init__(self, width: int, heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.text = Stream(width, heads, mlp_hidden)
        self.norm_q = nn.RMSNorm(width // heads, eps=NORM_EPS)
        self.norm_k = nn.RMSNorm(width // heads, eps=NORM_EPS)

    def forward(self, text: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """text [B, L, C], cos and sin [L, D], mask [B, 1, 1, L] added to the logits or None -> [B, L, C]."""
        q, k, v = self.text.heads_of(text)
        q, k = (norm_rotate(x, norm.weight, NORM_EPS, cos, sin) for x, norm in ((q, self.norm_q), (k, self.norm_k)))
        return self.text.finish(text, attend(q, k, v, mask))


class JointBlock(nn.Module):
    """Image and text tokens, each with weights of their own, in one attention; both are updated."""

    def __init__(self, width: int, heads: int, mlp_hidden: int, modulation: str = "none") -> None:
        super().__init__()
        self.image = Stream(width, heads, mlp_hidden, modulation)
        self.text = Stream(width, heads, mlp_hidden, modulation)
        self.norm_q = nn.RMSNorm(width // heads, eps=NORM_EPS)
        self.norm_k = nn.RMSNorm(width // heads, eps=NORM_EPS)

    def forward(
        self, x: Tensor, text: Tensor, image_place: tuple[Tensor, Tensor], text_place: tuple[Tensor, Tensor],
        mask: Tensor | None, time: Tensor | None = None, looks: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """x [B, N, C], text [B, L, C], each with its (cos, sin), mask [B, 1, 1, L + N] or None -> the two, updated.

        time: as `Modulation` takes it, where the streams are modulated.

        looks: where the shares of the picture's attention that the text gets, [B, N, L], are put.
        """
        parts = []
        by_text, by_image = self.text.modulated(time), self.image.modulated(time)
        streams = (self.text, text, text_place, by_text), (self.image, x, image_place, by_image)
        for stream, tokens, (cos, sin), by in streams:
            q, k, v = stream.heads_of(tokens, by)
            q, k = (norm_rotate(y, norm.weight, NORM_EPS, cos, sin) for y, norm in ((q, self.norm_q), (k, self.norm_k)))
            parts.append((q, k, v))
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*parts, strict=True))  # [B, H, L + N, D]
        gathered = attend(q, k, v, mask)
        length = text.shape[1]
        if looks is not None:
            looks.append(attention_shares(q[:, :, length:], k, mask, length))
        image = self.image.finish(x, gathered[:, :, length:], by_image)
        return image, self.text.finish(text, gathered[:, :, :length], by_text)
