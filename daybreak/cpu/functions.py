"""The kernels of kernels.c as functions with a gradient; model/layers.py and model/rope.py have their plain forms.

Arithmetic is in float32 (float64 for float64), whatever a product before or behind is made in. What the backward pass
needs is made again there from the inputs, so that little is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from daybreak.cpu.kernels import call

Grads = tuple[Tensor | None, ...]
COSINE_EPS = 1e-8
"""The least norm that is divided by, as in `torch.nn.functional.cosine_similarity`."""


def exact(dtype: torch.dtype) -> torch.dtype:
    """The type that kernels for `dtype` compute in."""
    return torch.promote_types(dtype, torch.float32)


class Modulate(torch.autograd.Function):
    """LayerNorm without parameters, then x * (1 + scale) + shift: x [B, N, C], shift and scale [B, 1, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
        x, out, moments = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format), _moments(x)
        shift, scale = _rows(x, shift, scale)
        call("modulate", x.dtype, *x.shape, x, None, None, shift, scale, scale.stride(0), eps, None, out, moments)
        ctx.save_for_backward(x, moments, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Grads:  # type: ignore[override]
        x, moments, scale = ctx.saved_tensors
        grad_x, sums = torch.empty_like(x), _sums(x)
        call("modulate_backward", x.dtype, *x.shape, None, grads[0].contiguous(), x, moments, scale, None, None,
             scale.stride(0), grad_x, None, sums)  # fmt: skip
        _, grad_shift, grad_scale = _of_rows(sums, x.dtype)
        return grad_x, grad_shift, grad_scale, None


class AddModulate(torch.autograd.Function):
    """sum = x + gate * y, and the modulated norm of the sum: x and y [B, N, C], gate, shift and scale [B, 1, C]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gate: Tensor, y: Tensor, shift: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        x, y, moments = x.contiguous(), y.to(x.dtype).contiguous(), _moments(x)
        gate, shift, scale = _rows(x, gate, shift, scale)
        total, out = torch.empty_like(x), torch.empty_like(x)
        call("modulate", x.dtype, *x.shape, x, gate, y, shift, scale, gate.stride(0), eps, total, out, moments)
        ctx.save_for_backward(total, moments, scale, gate, y)
        return total, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Grads:  # type: ignore[override]
        total, moments, scale, gate, y = ctx.saved_tensors
        grad_total, grad_out = (g.contiguous() for g in grads)
        grad_x, grad_y, sums = torch.empty_like(y), torch.empty_like(y), _sums(y)
        call("modulate_backward", y.dtype, *y.shape, grad_total, grad_out, total, moments, scale, gate, y,
             gate.stride(0), grad_x, grad_y, sums)  # fmt: skip
        grad_gate, grad_shift, grad_scale = _of_rows(sums, y.dtype)
        return grad_x, grad_gate, grad_y, grad_shift, grad_scale, None


class AddGated(torch.autograd.Function):
    """x + gate * y: x and y [B, N, C], gate [B, 1, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
        x, y, (gate,) = x.contiguous(), y.to(x.dtype).contiguous(), _rows(x, gate)
        total = torch.empty_like(x)
        call("modulate", x.dtype, *x.shape, x, gate, y, None, None, gate.stride(0), 0.0, total, None, None)
        ctx.save_for_backward(gate, y)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Grads:  # type: ignore[override]
        gate, y = ctx.saved_tensors
        grad, grad_y, sums = grads[0].contiguous(), torch.empty_like(y), _sums(y)
        call("modulate_backward", y.dtype, *y.shape, grad, None, None, None, None, gate, y, gate.stride(0), None,
             grad_y, sums)  # fmt: skip
        return grad, _of_rows(sums, y.dtype)[0], grad_y


class GatedGelu(torch.autograd.Function):
    """gelu(gate) * up, GELU in its tanh form: [..., 2 H], gate first -> [..., H]."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate_up = gate_up.contiguous()
        half = gate_up.shape[-1] // 2
        out = gate_up.new_empty(*gate_up.shape[:-1], half)
        call("gated_gelu", gate_up.dtype, gate_up.numel() // (2 * half), half, gate_up, out)
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # type: ignore[override]
        (gate_up,) = ctx.saved_tensors
        half, result = gate_up.shape[-1] // 2, torch.empty_like(gate_up)
        rows = gate_up.numel() // (2 * half)
        call("gated_gelu_backward", gate_up.dtype, rows, half, grads[0].contiguous(), gate_up, result)
        return result


class SplitHeads(torch.autograd.Function):
    """From the projections to what the two products of attention take: QK-norm, rotation, text before image.

    qkv [B, N, 3 C], text_kv [B, L, 2 C]; the norms' weights [D] of queries, keys and the text's keys; cos and sin
    [N, D] or [B, 1, N, D] -> queries [B, H, N, D], already times D^-1/2; keys and values [B, H, L + N, D].
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, text_kv: Tensor, q_weight: Tensor, k_weight: Tensor, text_weight: Tensor,
        cos: Tensor, sin: Tensor, heads: int, eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        qkv, text_kv = qkv.contiguous(), text_kv.to(qkv.dtype).contiguous()
        (b, n, _), length, d = qkv.shape, text_kv.shape[1], len(q_weight)
        if cos.shape not in {(n, d), (b, 1, n, d)} or cos.shape != sin.shape or len(text_kv) != b:
            raise ValueError(f"places of {tuple(cos.shape)} do not belong to {n} tokens of {b} pictures")
        fixed = [x.to(exact(qkv.dtype)).contiguous() for x in (q_weight, k_weight, text_weight, cos, sin)]
        sizes = b, n, length, heads, d
        scalars = (n if cos.dim() == 4 else 0), d**-0.5, eps
        q, (k, v) = qkv.new_empty(b, heads, n, d), qkv.new_empty(2, b, heads, length + n, d)
        call("split_heads", qkv.dtype, *sizes, qkv, text_kv, *fixed, *scalars, q, k, v)
        ctx.save_for_backward(qkv, text_kv, *fixed)
        ctx.sizes, ctx.scalars, ctx.dtypes = sizes, scalars, [w.dtype for w in (q_weight, k_weight, text_weight)]
        return q, k, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Grads:  # type: ignore[override]
        qkv, text_kv, *fixed = ctx.saved_tensors
        grad_qkv, grad_text_kv = torch.empty_like(qkv), torch.empty_like(text_kv)
        weights = qkv.new_empty(len(qkv), 3, ctx.sizes[-1], dtype=exact(qkv.dtype))
        call("split_heads_backward", qkv.dtype, *ctx.sizes, qkv, text_kv, *fixed, *ctx.scalars,
             *(g.contiguous() for g in grads), grad_qkv, grad_text_kv, weights)  # fmt: skip
        of_weights = (w.to(dtype) for w, dtype in zip(weights.sum(dim=0), ctx.dtypes, strict=True))
        return grad_qkv, grad_text_kv, *of_weights, None, None, None, None


class SoftmaxAttention(torch.autograd.Function):
    """softmax(q k^T + mask) v: q [B, H, N, D], k and v [B, H, M, D], mask [B or 1, 1 or H, 1 or N, M] or None."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        b, heads, n, m = *q.shape[:3], k.shape[2]
        steps = [0, 0, 0]
        if mask is not None:
            if mask.shape not in {(p, h, r, m) for p in (1, b) for h in (1, heads) for r in (1, n)}:
                raise ValueError(f"a mask of {tuple(mask.shape)} does not belong to logits {(b, heads, n, m)}")
            ctx.mask = mask.shape, mask.dtype
            mask = mask.to(exact(q.dtype)).contiguous()
            steps = [mask.stride(i) if mask.shape[i] > 1 else 0 for i in range(3)]
        with torch.autocast("cpu", enabled=False):  # it would change the logits' format, and the kernel is told of q's
            shares = q @ k.transpose(-2, -1)
            call("softmax", q.dtype, b, heads, n, m, mask, *steps, shares)
            ctx.save_for_backward(q, k, v, shares)
            return shares @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Grads:  # type: ignore[override]
        q, k, v, shares = ctx.saved_tensors
        b, heads, n, m = shares.shape
        grad = grads[0].contiguous()
        grad_v, grad_logits = shares.transpose(-2, -1) @ grad, grad @ v.transpose(-2, -1)
        shape, dtype = ctx.mask if ctx.needs_input_grad[3] else ((), q.dtype)
        summed = shape and shape[1] == 1  # over heads, by the kernel, which has them in the arithmetic's own precision
        of_mask = q.new_empty(b, 1, n, m, dtype=exact(q.dtype)) if summed else None
        call("softmax_backward", q.dtype, b, heads, n, m, shares, grad_logits, of_mask)
        if shape:
            of_mask = (grad_logits if of_mask is None else of_mask).sum_to_size(shape).to(dtype)
        return grad_logits @ k, grad_logits.transpose(-2, -1) @ q, grad_v, of_mask


class Cosine(torch.autograd.Function):
    """The cosine of each row of x with its partner in y: both [..., C] -> [...], with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape or ctx.needs_input_grad[1]:
            raise ValueError(f"x {tuple(x.shape)} and y {tuple(y.shape)} are alike in shape, and y has no gradient")
        x, y = x.contiguous(), y.to(x.dtype).contiguous()
        cosines = x.new_empty(x.shape[:-1], dtype=exact(x.dtype))
        inverse = x.new_empty(*x.shape[:-1], 2, dtype=exact(x.dtype))
        call("cosine", x.dtype, cosines.numel(), x.shape[-1], x, y, COSINE_EPS, cosines, inverse)
        ctx.save_for_backward(x, y, cosines, inverse)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Grads:  # type: ignore[override]
        x, y, cosines, inverse = ctx.saved_tensors
        of_x = torch.empty_like(x)
        call("cosine_backward", x.dtype, cosines.numel(), x.shape[-1], grads[0].contiguous(), x, y, cosines, inverse,
             of_x)  # fmt: skip
        return of_x, None


def group_norm_silu(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """silu(group_norm(x)) without a gradient: [B, C, H, W] -> the same, channels last in memory."""
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    b, c, h, w = x.shape
    fixed = [v.detach().to(exact(x.dtype)).contiguous() for v in (weight, bias)]
    call("group_norm_silu", x.dtype, b, h * w, c, groups, x, *fixed, eps, out)
    return out


def _moments(x: Tensor) -> Tensor:
    """Room for mean and inverse deviation of each token [B, N, C]."""
    return x.new_empty(*x.shape[:2], 2, dtype=exact(x.dtype))


def _rows(x: Tensor, *rows: Tensor) -> list[Tensor]:
    """Shift, scale and gate [B, 1, C] as the kernels take them: in the dtype of x, one distance from row to row."""
    if any(r.shape != (len(x), 1, x.shape[-1]) for r in rows):
        raise ValueError(f"rows of {[tuple(r.shape) for r in rows]} do not belong to tokens {tuple(x.shape)}")
    if any(r.dtype != x.dtype or r.stride(-1) != 1 or r.stride(0) != rows[0].stride(0) for r in rows):
        return [r.to(x.dtype).contiguous() for r in rows]
    return list(rows)


def _sums(x: Tensor) -> Tensor:
    """Room for the gradients of gate, shift and scale."""
    return x.new_empty(len(x), 3, x.shape[-1], dtype=exact(x.dtype))


def _of_rows(sums: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return sums.to(dtype)[:, :, None].unbind(dim=1)
