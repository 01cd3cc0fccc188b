"""The layers of the pixel transformer: embeddings, attention over image and text, gated MLP, the block."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daybreak.attention import attend, attention_shares
from daybreak.cpu import functions, kernels
from daybreak.encoders.text import TextMemory
from daybreak.model.rope import norm_rotate, rms_norm

NORM_EPS = 1e-6


def sinusoid(x: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding of scalars: [B] -> [B, width] float32, cosines first (DDPM, arXiv 2006.11239)."""
    half = width // 2
    frequency = torch.exp(-math.log(max_period) / half * torch.arange(half, dtype=torch.float32, device=x.device))
    angle = x.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, then x * (1 + scale) + shift (adaLN, DiT, arXiv 2212.09748).

    x [B, N, C]; shift and scale [B, 1, C], or [1, 1, C] for all pictures alike, which one kernel does in half the time.
    """
    if kernels.in_training(x) and len(shift) == len(x):
        return functions.Modulate.apply(x, shift, scale, NORM_EPS)
    if len(shift) == 1 and not torch.is_grad_enabled():
        return F.layer_norm(x, x.shape[-1:], 1 + scale.view(-1), shift.reshape(-1), NORM_EPS)
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale)


def add_gated(x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """x + gate * y: x and y [B, N, C], gate [B, 1, C]."""
    if kernels.in_training(x) and len(gate) == len(x):
        return functions.AddGated.apply(x, gate, y)
    return torch.addcmul(x, gate, y)


def add_modulate(x: Tensor, gate: Tensor, y: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """`add_gated`, and `modulate` of it."""
    if kernels.in_training(x) and len(gate) == len(x):
        return functions.AddModulate.apply(x, gate, y, shift, scale, NORM_EPS)
    x = add_gated(x, gate, y)
    return x, modulate(x, shift, scale)


def gated_gelu(gate_up: Tensor) -> Tensor:
    """gelu(gate) * up, GELU in its tanh form: [..., 2 H], gate first -> [..., H]."""
    if kernels.in_training(gate_up):
        return functions.GatedGelu.apply(gate_up)
    if gate_up.device.type == "cpu" and gate_up.dtype == torch.float32 and not torch.compiler.is_compiling():
        if not torch.is_grad_enabled():
            gate, up = gate_up.chunk(2, dim=-1)
            return _sigmoid_of_gelu(gate).mul_(gate).mul_(up)
        return _CpuGatedGelu.apply(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


GELU_K, GELU_C = 2 * (2 / math.pi) ** 0.5, 0.044715


def _sigmoid_of_gelu(x: Tensor) -> Tensor:
    """sigmoid(k (x + c x^3)), by which the tanh form of GELU multiplies x; a new tensor."""
    return torch.addcmul(x.new_tensor(GELU_K), x, x, value=GELU_K * GELU_C).mul_(x).sigmoid_()


class _CpuGatedGelu(torch.autograd.Function):
    """The same with x sigmoid(2 k (x + c x^3)) for the tanh form, to which it is equal, and few passes over memory.

    torch's CPU kernel of the tanh form takes an eighth of a training step of the small model; this takes half of that.
    """

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        sigmoid = _sigmoid_of_gelu(gate)
        gelu = gate * sigmoid
        ctx.save_for_backward(gate_up, sigmoid, gelu)
        return gelu * up

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        gate_up, sigmoid, gelu = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        k, c = GELU_K, GELU_C
        result = torch.empty_like(gate_up)
        grad_gate, grad_up = result.chunk(2, dim=-1)
        # d gelu / dx = s + gelu (1 - s) k (1 + 3 c x^2)
        torch.mul(gate, gate, out=grad_gate)
        grad_gate.mul_(3 * k * c).add_(k).mul_(gelu).mul_(1 - sigmoid).add_(sigmoid).mul_(up).mul_(grad)
        torch.mul(grad, gelu, out=grad_up)
        return result


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

    def read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the text: [B, L, C] -> two of [B, H, L, D]."""
        b, length, _ = text.shape
        k, v = self.text_kv(text).view(b, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return rms_norm(k, self.norm_text_k.weight, NORM_EPS), v

    def forward(
        self, x: Tensor, text: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None,
        memory: TextMemory | None = None, index: int = 0, looks: list[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """x [B, N, C], text [B, L, C], cos and sin [N, D] or [B, 1, N, D], mask [B, 1, 1, L + N] or None -> as x.

        memory: where the text's keys and values are kept under `index`, and taken from when they are there. looks:
        where the shares of attention that the text gets, [B, N, L], are put.
        """
        b, n, c = x.shape
        if kernels.in_training(x) and memory is None and looks is None:
            weights = self.norm_q.weight, self.norm_k.weight, self.norm_text_k.weight
            q, k, v = functions.SplitHeads.apply(
                self.qkv(x), self.text_kv(text), *weights, cos, sin, self.heads, NORM_EPS
            )
            return self.out(attend(q, k, v, mask, scale=1.0).transpose(1, 2).reshape(b, n, c))
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # 3 x [B, H, N, D]
        if memory is None:
            text_k, text_v = self.read(text)
        else:
            if index not in memory.keys_values:
                memory.keys_values[index] = self.read(text)
            text_k, text_v = memory.keys_values[index]
        q = norm_rotate(q, self.norm_q.weight, NORM_EPS, cos, sin)
        k = norm_rotate(k, self.norm_k.weight, NORM_EPS, cos, sin, text_k)  # [B, H, L + N, D]
        v = torch.cat([text_v, v], dim=2)
        if looks is not None:
            looks.append(attention_shares(q, k, mask, text.shape[1]))
        return self.out(attend(q, k, v, mask, text.shape[1]).transpose(1, 2).reshape(b, n, c))


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)) (GLU variants, arXiv 2002.05202): [B, N, C] -> [B, N, C].

    act is GELU in its tanh form, or SiLU.
    """

    def __init__(self, width: int, hidden: int, silu: bool = False) -> None:
        super().__init__()
        self.silu = silu
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        if self.silu:
            gate, up = self.gate_up(x).chunk(2, dim=-1)
            return self.down(F.silu(gate) * up)
        return self.down(gated_gelu(self.gate_up(x)))


class Modulation(nn.Module):
    """Shift, scale and gate of a block's two halves, from the time embedding (adaLN, DiT, arXiv 2212.09748).

    With `shared` the block has only a bias of its own; the linear layer is one for all blocks and comes from outside
    (adaLN-single, PixArt-alpha, arXiv 2310.00426).
    """

    def __init__(self, width: int, shared: bool) -> None:
        super().__init__()
        self.linear = None if shared else nn.Linear(width, 6 * width)
        self.bias = nn.Parameter(torch.zeros(6 * width)) if shared else None

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        """time [B, C] after SiLU, or [B, 6 C] from the shared layer -> six of [B, 1, C]: shift, scale, gate, twice."""
        if self.linear is not None:
            return self.linear(time)[:, None].chunk(6, dim=-1)
        assert self.bias is not None
        return (time + self.bias)[:, None].chunk(6, dim=-1)


class Block(nn.Module):
    """Attention, then the gated MLP, each modulated by the time embedding and added through a gate.

    `modulation`: "block", "shared" (see `Modulation`) or "none" (RMSNorm with a weight, no gate: MiniT2I and "Back to
    Basics" without adaLN).
    """

    def __init__(self, width: int, heads: int, mlp_hidden: int, modulation: str = "block") -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = GatedMLP(width, mlp_hidden)
        self.modulation = Modulation(width, modulation == "shared") if modulation != "none" else None
        self.norm_a = nn.RMSNorm(width, eps=NORM_EPS) if modulation == "none" else None
        self.norm_m = nn.RMSNorm(width, eps=NORM_EPS) if modulation == "none" else None

    def forward(
        self, x: Tensor, text: Tensor, time: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None,
        memory: TextMemory | None = None, index: int = 0, looks: list[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """x [B, N, C], text [B, L, C], time as `Modulation` takes it, the rest as in `Attention` -> [B, N, C]."""
        if self.modulation is None:
            assert self.norm_a is not None and self.norm_m is not None
            normed = rms_norm(x, self.norm_a.weight, NORM_EPS)
            x = x + self.attention(normed, text, cos, sin, mask, memory, index, looks)
            return x + self.mlp(rms_norm(x, self.norm_m.weight, NORM_EPS))
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(time)
        attended = self.attention(modulate(x, shift_a, scale_a), text, cos, sin, mask, memory, index, looks)
        x, normed = add_modulate(x, gate_a, attended, shift_m, scale_m)
        return add_gated(x, gate_m, self.mlp(normed))
