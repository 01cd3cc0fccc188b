"""Which library multiplies matrices on a CPU: MKL, as torch chooses, or oneDNN, which torch has in it, too."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")
EXACT = 1e-5
"""Products of float32 are off by some 1e-6 of the largest value; of numbers rounded to bfloat16, by 1e-3."""
CACHED_LOGITS = 2**20
"""So many logits of attention are written out at once: 4 MiB, which a core's share of the caches holds."""


def choose_products() -> None:
    """Has oneDNN multiply in float32 where it is the faster one and as exact: AVX512 of another maker than Intel.

    There MKL runs as if there were AVX2 alone: 110 GFLOP/s a core of a Zen 5, where oneDNN runs at 240. torch hands it
    float32 products only with leave to round to bfloat16 ("medium"). oneDNN does so on CPUs with tiles (AMX), which are
    left alone, and nowhere else; one product is checked. Whoever has chosen before keeps their choice.
    """
    chosen = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    if chosen not in ("none", "ieee") or not _mkl_holds_back():
        return
    torch.set_float32_matmul_precision("medium")
    if _error_of_a_product() > EXACT:
        torch.set_float32_matmul_precision("highest")


def on_onednn() -> bool:
    """Whether oneDNN multiplies in float32 on this CPU."""
    return torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None = None, masked: int | None = None
) -> Tensor:  # fmt: skip
    """softmax(scale q k^T + mask) v: q [B, H, N, D], k and v [B, H, M, D], mask [B or 1, 1 or H, 1 or N, M] or None.

    scale: 1 / sqrt(D) by default. masked: number of keys behind which the mask is zero, where that is known.

    torch's fused kernel, but where oneDNN multiplies and no gradient is needed: that kernel asks it for many small
    products, at up to ten times their own cost. Then the two products are written out, for as many pictures at once as
    the caches hold; where they don't hold one, the fused kernel is the faster one.
    """
    b, heads, n, d = q.shape
    at_once = CACHED_LOGITS // (heads * n * k.shape[2])
    fused = torch.is_grad_enabled() or torch.compiler.is_compiling() or q.device.type != "cpu" or at_once == 0
    if fused or q.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or not on_onednn():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    q = (q * (d**-0.5 if scale is None else scale)).reshape(b * heads, n, d)
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


def _mkl_holds_back() -> bool:
    if not torch.backends.mkl.is_available() or not torch.backends.mkldnn.is_available():
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or torch.cpu._is_amx_tile_supported():
        return False
    return CPU_INFO.is_file() and "GenuineIntel" not in CPU_INFO.read_text(errors="replace")


def _error_of_a_product() -> float:
    """The largest error of one product, as a share of its largest value."""
    a = torch.linspace(-1, 1, 256 * 384).mul(1e4).sin().view(256, 384)
    exact = a.double() @ a.double().T
    return float((a @ a.T - exact).abs().max() / exact.abs().max())
