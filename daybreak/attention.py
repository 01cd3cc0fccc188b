"""Softmax attention: by torch's fused kernel, or on a CPU by two products and a softmax where that is faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from daybreak.cpu import functions, kernels
from daybreak.products import on_onednn

FUSED_FROM_QUERIES = 100
"""From so many queries on torch's fused attention is faster in training on a CPU than products and its softmax."""
LOGITS_OF_A_HEAD = 2**21
"""So many logits of a head, some 1,400 queries to as many keys, are kept at most in training on a CPU."""
CACHED_LOGITS = 2**20
"""So many logits are written out at once without a gradient: 4 MiB, which a core's share of the caches holds."""


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, masked: int | None = None, scale: float | None = None
) -> Tensor:
    """softmax(scale q k^T + mask) v: q [B, H, N, D], k and v [B, H, M, D] -> [B, H, N, D]; scale: 1 / sqrt(D).

    `mask` [B or 1, 1 or H, 1 or N, M] is added to the logits: 0 where a key counts, -inf where it does not; behind the
    first `masked` keys it is zero, where that is known. On a CPU the two products are written out in training, with a
    kernel between them where there is one, as long as what is kept of them for the backward pass is not much: torch's
    fused kernel takes two to six times as long there and back, and longer where the mask is learnt.
    """
    heads, n, d = q.shape[1:]
    scale = d**-0.5 if scale is None else scale
    if v.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # as torch's own attention does
        q, k, v = (x.to(torch.get_autocast_dtype("cpu")) for x in (q, k, v))
    if kernels.in_training(v) and n * k.shape[2] <= LOGITS_OF_A_HEAD:
        q = q if scale == 1 else q * scale
        return functions.SoftmaxAttention.apply(q.to(v.dtype), k.to(v.dtype), v, mask)
    mask = None if mask is None else mask.to(q.dtype)
    if q.device.type != "cpu" or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    if torch.is_grad_enabled() and n < FUSED_FROM_QUERIES:
        logits = (q * scale) @ k.transpose(-2, -1)
        if mask is not None:
            logits += mask  # no gradient needs the product itself
        return logits.softmax(dim=-1) @ v
    at_once = CACHED_LOGITS // (heads * n * k.shape[2])
    if q.dtype == torch.float32 and at_once and on_onednn() and not torch.is_grad_enabled():
        return _written_out(q * scale, k, v, mask, masked, at_once)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, masked: int | None, at_once: int) -> Tensor:
    """The two products, without a gradient, for `at_once` pictures at a time: as many as the caches hold.

    torch's fused kernel asks oneDNN for many small products, at up to ten times their own cost.
    """
    b, heads, n, d = q.shape
    q = q.reshape(b * heads, n, d)
    k, v = k.reshape(b * heads, -1, d).transpose(1, 2), v.reshape(b * heads, -1, d)
    mask = None if mask is None else mask.expand(b, -1, -1, -1)
    parts = []
    for start in range(0, b, at_once):
        rows = slice(start * heads, (start + at_once) * heads)
        logits = q[rows] @ k[rows]  # [P H, N, M]
        if mask is not None:
            some = logits.view(-1, heads, *logits.shape[1:])[..., :masked]
            some += mask[start : start + at_once, ..., :masked]
        # Not into the logits' own memory: that way torch's softmax takes half as long again.
        parts.append(logits.softmax(dim=-1) @ v[rows])
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole.view(b, heads, n, d)


def attention_shares(q: Tensor, k: Tensor, mask: Tensor | None, first: int) -> Tensor:
    """What share of a query's attention goes to each of the first keys, mean over heads: [B, N, first].

    q [B, H, N, D], k [B, H, M, D], mask as in `attend`, whose fused kernels keep no shares. Head by head, since the
    products of all would not fit for large pictures.
    """
    total = q.new_zeros(q.shape[0], q.shape[2], first)
    for head in range(q.shape[1]):
        logits = (q[:, head] * q.shape[-1] ** -0.5) @ k[:, head].transpose(-2, -1)  # [B, N, M]
        if mask is not None:
            logits += mask[:, 0]
        total += logits.softmax(dim=-1)[..., :first]
    return total / q.shape[1]
