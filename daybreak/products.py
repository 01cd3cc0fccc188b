"""Which library multiplies matrices on a CPU: MKL, as torch chooses, or oneDNN, which torch has in it, too."""

from __future__ import annotations

from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
EXACT = 1e-5
"""Products of float32 are off by some 1e-6 of the largest value; of numbers rounded to bfloat16, by 1e-3."""


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
