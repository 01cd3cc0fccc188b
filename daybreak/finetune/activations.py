"""What autograd keeps of a base's forward pass: counted, not guessed.

One forward pass of the base's own network on tensors without storage (torch's "meta" device) adds up what is kept.
Attention matrices are left out, since fused kernels never store them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from daybreak.finetune.adapters import inject_alike
from daybreak.finetune.families import Family
from daybreak.finetune.offloaded import blocks_of, recomputed
from daybreak.finetune.settings import FinetuneSettings


def kept_bytes(family: Family, settings: FinetuneSettings, side: int, recompute: bool) -> int:
    """Bytes that autograd keeps of one picture's forward pass through the denoiser, in float32."""
    network = family.network
    with torch.device("meta"):
        empty = family.another()
        low_rank = settings.low_rank
        empty.requires_grad_(not low_rank and settings.token is None)
        if low_rank:
            inject_alike(network, empty)
    empty.train()
    if settings.offload and recompute:
        for block in blocks_of(empty):
            recomputed(block)
    elif recompute and getattr(empty, "_supports_gradient_checkpointing", False):
        empty.enable_gradient_checkpointing()
    own = {p.untyped_storage()._cdata for p in empty.parameters()}
    seen: set[int] = set()
    kept: list[Tensor] = []  # alive, so that no storage's number is used twice
    with torch.no_grad():
        text = {k: _meta(v) for k, v in family.text(["a"]).items()}
        rows = family.rows(torch.zeros(1, 3, side, side, device=next(network.parameters()).device))
    channels, h, w = family.row_channels(rows.shape[1]), *rows.shape[2:]
    if settings.token is not None or settings.train_text_encoder:
        text = {k: v.requires_grad_() if v.is_floating_point() else v for k, v in text.items()}
    total = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        number = tensor.untyped_storage()._cdata
        attention = tensor.ndim == 4 and tensor.shape[-2] > max(h, w)
        if number not in own and number not in seen and not attention:
            seen.add(number)
            kept.append(tensor)
            total += tensor.untyped_storage().nbytes()
        return tensor

    x_t = torch.empty(1, channels, h, w, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        family.predict(empty, x_t, torch.ones(1, device="meta"), text)
    return total


def _meta(tensor: Tensor) -> Tensor:
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=kind, device="meta")
