"""Weights that are not trained, in 8 or 4 bits: what fits a base of several billions onto one card, under an adapter.

int8: one scale an output, as the 8-bit folders of daybreak shrink. nf4: the sixteen values at which as many normal
weights lie (QLoRA, arXiv 2305.14314, appendix E), one scale for each 64 weights. Both are made whole for the length of
a product, and once more in the backward pass, so that autograd keeps nothing of them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Kind = Literal["int8", "nf4"]
BLOCK = 64
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The paper's values, of weights whose largest is 1."""


class FrozenLinear(nn.Linear):
    """A linear layer whose weight is kept in few bits. `codes` uint8 or int8; `scale` float32; gradients pass through
    to what comes in."""

    codes: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear, kind: Kind) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        codes, scale = (to_int8 if kind == "int8" else to_nf4)(layer.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """[out, in] in float32, made anew each time."""
        return _whole(self.codes, self.scale, (self.out_features, self.in_features), torch.float32)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out], in the format that autocast asks for, else in that of the input."""
        x = input
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        y = _Product.apply(x, self.codes, self.scale, (self.out_features, self.in_features))
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """x W^T; of W only codes and scales are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scale: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(codes, scale)
        ctx.shape = shape
        return functional.linear(x, _whole(codes, scale, shape, x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        codes, scale = ctx.saved_tensors
        return gradient @ _whole(codes, scale, ctx.shape, gradient.dtype), None, None, None


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[out, in] -> codes of its shape in -127..127, scale [out, 1]."""
    weight = weight.float()
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round().to(torch.int8), scale


def to_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[out, in] -> two codes a byte, scale [blocks, 1]; the last block is filled up with zeros."""
    flat = weight.float().flatten()
    blocks = functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
    values = torch.tensor(NF4, device=weight.device)
    middles = (values[1:] + values[:-1]) / 2
    codes = torch.bucketize(blocks / scale, middles).to(torch.uint8).flatten()
    return codes[::2] * 16 + codes[1::2], scale


def _whole(codes: Tensor, scale: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    if codes.dtype == torch.int8:
        return (codes * scale).to(dtype)
    values = torch.tensor(NF4, device=codes.device)
    pairs = torch.stack([codes // 16, codes % 16], dim=1).int()
    return (values[pairs].view(-1, BLOCK) * scale).flatten()[: shape[0] * shape[1]].view(shape).to(dtype)


def freeze(network: nn.Module, kind: Kind) -> None:
    """Turns the weights of all linear layers into few bits, in place."""
    for name, layer in list(network.named_modules()):
        if type(layer) is nn.Linear:
            place, _, own = name.rpartition(".")
            setattr(network.get_submodule(place), own, FrozenLinear(layer, kind))


def frozen_bytes(network: nn.Module) -> int:
    """What weights in few bits take."""
    layers = [m for m in network.modules() if isinstance(m, FrozenLinear)]
    return sum(t.numel() * t.element_size() for m in layers for t in (m.codes, m.scale))


def saved_bytes(network: nn.Module, kind: Kind, size: int) -> float:
    """What `freeze` would spare, where a weight takes `size` bytes."""
    shapes = [m.weight.shape for m in network.modules() if type(m) is nn.Linear]
    if kind == "int8":
        return float(sum(o * i * (size - 1) - 4 * o for o, i in shapes))
    return float(sum(o * i * (size - 0.5 - 4 / BLOCK) for o, i in shapes))
