"""Attention of diffusers' networks on a CPU as our own transformer computes it.

torch's fused kernel was four fifths of a step of a small Stable Diffusion there (docs/journal.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from daybreak.attention import attend


def attend_as_ours(network: nn.Module) -> None:
    """Has every attention of a network hand its queries, keys and values to `attention.attend`. Through the modules
    themselves, so that it holds where they are recomputed, too.
    """
    for module in network.modules():
        if hasattr(module, "processor"):
            module.forward = _handing_over(module.forward)


def _handing_over(forward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(forward)
    def with_ours(*args: Any, **kwargs: Any) -> Any:
        with _HandOver():
            return forward(*args, **kwargs)

    return with_ours


class _HandOver(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention and (found := _ours(*args, **given)) is not None:
            return found
        return func(*args, **given)


def _ours(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    """As torch's own; None for what `attend` does not know."""
    if dropout_p or is_causal or enable_gqa or query.ndim != 4:
        return None
    mask = attn_mask
    if mask is not None:
        b, heads, n, m = *query.shape[:3], key.shape[2]
        if mask.shape not in {(p, h, r, m) for p in (1, b) for h in (1, heads) for r in (1, n)}:
            return None
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
    return attend(query, key, value, mask, scale=scale)
