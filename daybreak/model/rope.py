"""Rotary position embedding over two axes (RoFormer, arXiv 2104.09864), in the half-rotation layout.

The first half of a head's channels pairs with the second half. diffusers and PRX pair neighbouring channels instead;
the two are the same function up to the order of channels, and formats/prx_keys.py converts the weights. The halves
rotate without strided memory access, which is what makes this layout the faster one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def axial_angles(rows: int, columns: int, head_dim: int, theta: float, device: torch.device) -> Tensor:
    """Angles of each token of a grid: [rows * columns, head_dim / 2] float32, row by row.

    The first half of the angles turn with the row, the second half with the column; `head_dim` is divisible by 4.
    Computed in float64, since the angle of a far token at a high frequency loses digits in float32.
    """
    per_axis = head_dim // 2
    frequency = theta ** -(torch.arange(0, per_axis, 2, dtype=torch.float64, device=device) / per_axis)
    row = torch.arange(rows, dtype=torch.float64, device=device)[:, None] * frequency  # [rows, head_dim / 4]
    column = torch.arange(columns, dtype=torch.float64, device=device)[:, None] * frequency
    grid = torch.cat(
        [row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)], dim=-1
    )  # [rows, columns, head_dim / 2]
    return grid.reshape(rows * columns, per_axis).float()


def line_angles(length: int, head_dim: int, theta: float, device: torch.device) -> Tensor:
    """Angles of each token of a text: [length, head_dim / 2] float32 (RoFormer, eq. 15)."""
    frequency = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim)
    return (torch.arange(length, dtype=torch.float64, device=device)[:, None] * frequency).float()


def rotation(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Angles [N, D / 2] -> (cosine, signed sine), each [N, D], as `rotate` takes them."""
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair of channels (i, i + D/2) of x [B, H, N, D] by its token's angle.

    cos and sin as in `rotation`, or [B, 1, N, D] where each picture has its own tokens.
    """
    half = x.shape[-1] // 2
    swapped = torch.cat([x[..., half:], x[..., :half]], dim=-1)
    return torch.addcmul(x * cos, swapped, sin)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm over the last axis in the precision of x; with a weight of another, torch takes no fused kernel."""
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


def norm_rotate(
    x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor, behind: Tensor | None = None
) -> Tensor:  # fmt: skip
    """`rotate` of the RMS norm over channels: x [B, H, N, D], weight [D] -> as x; cos and sin as in `rotate`.

    behind [B, H, L, D]: what the result is appended to, giving [B, H, L + N, D].
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling():
        if not torch.is_grad_enabled():
            return _cpu_norm_rotate(x, weight, eps, cos, sin, behind)
        y = _CpuNormRotate.apply(x, weight, eps, cos, sin)
    else:
        y = rotate(rms_norm(x, weight, eps), cos, sin)
    return y if behind is None else torch.cat([behind, y], dim=2)


def _cpu_norm_rotate(
    x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor, behind: Tensor | None
) -> Tensor:  # fmt: skip
    """The same without gradients: rotated first and scaled afterwards, in the place where it is wanted."""
    b, heads, n, d = x.shape
    length, half = 0 if behind is None else behind.shape[2], d // 2
    whole = x.new_empty(b, heads, length + n, d)
    if behind is not None:
        whole[:, :, :length] = behind
    y = whole[:, :, length:]
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(d).add_(eps).rsqrt_()
    torch.mul(x, weight * cos, out=y)
    turned = weight.roll(half) * sin
    y[..., :half].addcmul_(x[..., half:], turned[..., :half])
    y[..., half:].addcmul_(x[..., :half], turned[..., half:])
    y.mul_(scale)
    return whole


class _CpuNormRotate(torch.autograd.Function):
    """The same in fewer passes over memory, which is what it costs on a CPU: 7 operations in place of 10, and no copy.

    With n = x / rms(x), halves 1 and 2 of the channels, and the norm's weight in the tables:
    y1 = n1 (w1 cos1) + n2 (w2 sin1), y2 = n2 (w2 cos2) + n1 (w1 sin2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        scale = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]).add_(eps).rsqrt_()
        n = torch.empty(x.shape)
        torch.mul(x, scale, out=n)
        y = n * (weight * cos)
        turned = weight.roll(half) * sin
        y[..., :half].addcmul_(n[..., half:], turned[..., :half])
        y[..., half:].addcmul_(n[..., :half], turned[..., half:])
        ctx.save_for_backward(n, scale, weight, cos, sin)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (grad,) = grads
        n, scale, weight, cos, sin = ctx.saved_tensors
        half = n.shape[-1] // 2
        back = grad * cos  # the gradient, turned back
        back[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        back[..., half:].addcmul_(grad[..., :half], sin[..., :half])
        along = back * n
        grad_weight = along.sum(dim=(0, 1, 2))
        mean = (along @ weight)[..., None].div_(n.shape[-1])  # of (dL/dn) n over the channels
        grad_x = back.mul_(weight).sub_(n.mul(mean)).mul_(scale)
        return grad_x, grad_weight, None, None, None
