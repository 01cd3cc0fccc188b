"""Where lower precision pays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from daybreak.config import Config


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware.

    A CPU without AVX512-BF16 or AMX emulates them: ten times slower than float32 (see docs/journal.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def lower_precision(config: Config, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16, as `train.precision` says."""
    wanted = config.train.precision
    return wanted == "bfloat16" or (wanted == "auto" and multiplies_bfloat16(device))


def autocast(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """The precision of the forward pass; trained weights stay float32 either way."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower_precision(config, device))


def muon_dtype(config: Config, device: torch.device) -> torch.dtype:
    """The precision of Newton-Schulz: bfloat16 (Jordan et al. 2024), where the forward pass has it and
    the device multiplies it."""
    lower = lower_precision(config, device) and multiplies_bfloat16(device)
    return torch.bfloat16 if lower else torch.float32
