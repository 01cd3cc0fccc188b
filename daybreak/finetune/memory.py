"""What a run takes of the GPU's memory, before it starts, and what follows: pictures at once, recomputation.

Activations are counted, not guessed: one forward pass of the base's own network on tensors without storage (torch's
"meta" device), adding up what autograd keeps. Attention matrices are left out, since fused kernels never store them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.finetune.adapters import inject_alike
from daybreak.finetune.families import Family
from daybreak.finetune.frozen_weights import Kind, frozen_bytes, saved_bytes
from daybreak.finetune.settings import FinetuneSettings

GIB = 2**30
CONTEXT = 1.0 * GIB
"""CUDA's own, and what fragments."""
FILL = 0.92
"""Share of the memory that a plan may take."""
RECOMPUTED = 0.15
"""Of the full activations, what the largest recomputed block takes again; measured on SD 1.5's UNet: 0.12."""


@dataclass(frozen=True)
class Plan:
    """parts: (name, bytes) that add up to the need; available: of the device; at_once: pictures; recompute."""

    parts: list[tuple[str, float]]
    available: float
    at_once: int
    recompute: bool

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(b for _, b in self.parts)

    @property
    def fits(self) -> bool:
        """Whether it is less than there is."""
        return self.total <= self.available


def device_bytes(device: torch.device) -> float:
    """Memory of the GPU, or of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def make_plan(
    family: Family, settings: FinetuneSettings, trained: int, side: int, dtype: torch.dtype, device: torch.device
) -> Plan:
    """The plan with the largest micro-batch that fits, without recomputation if one of at least four does.

    `trained`: numbers that are trained. What the settings fix stays fixed. ConfigError where not even one picture fits.
    """
    available = device_bytes(device)
    size = torch.empty(0, dtype=dtype).element_size()
    frozen = dtype if device.type == "cuda" and settings.method != "full" else torch.float32
    frozen_size = torch.empty(0, dtype=frozen).element_size()
    count = sum(p.numel() for p in family.network.parameters())
    if settings.train_text_encoder or settings.token or settings.shuffle_tags:
        count += sum(p.numel() for e in family.encoders.values() for p in e.parameters())
    in_full = trained if settings.method == "full" else 0
    moments = 2 if settings.adam_8bit else 8
    fixed = [
        ("weights, frozen", (count - in_full) * frozen_size + frozen_bytes(family.network)),
        ("weights, trained (float32)", 4.0 * trained),
        ("gradients", 4.0 * trained),
        (f"optimiser ({'8' if settings.adam_8bit else '32'} bit)", float(moments) * trained),
        ("averaged weights", 4.0 * trained if settings.ema else 0.0),
        ("weights as the forward pass casts them", float(size) * trained if size < 4 else 0.0),
        ("the device's own", CONTEXT if device.type == "cuda" else 0.0),
    ]
    full = kept_bytes(family, settings, side, recompute=False) * size / 4
    sizes = [settings.micro_batch] if settings.micro_batch else _halvings(settings.batch)
    enough = min(4, sizes[0])

    def plans(recompute: bool) -> list[Plan]:
        one = full
        if recompute:
            one = kept_bytes(family, settings, side, recompute=True) * size / 4 + RECOMPUTED * full
        found = []
        for n in sizes:
            parts = [*fixed, (f"activations of {n} pictures", n * one)]
            found.append(Plan([p for p in parts if p[1] > 0], available, n, recompute))
        return found

    choices = plans(bool(settings.recompute))
    fitting = [c for c in choices if c.total <= FILL * available]
    if settings.recompute is None and not any(c.at_once >= enough for c in fitting):
        choices = plans(True)  # counted only where it is needed: it takes as long as the first count
        fitting += [c for c in choices if c.total <= FILL * available]
    if fitting:
        return max(fitting, key=lambda c: (c.at_once, not c.recompute))
    if settings.micro_batch is not None:
        return choices[-1]  # the user's word; the plan that is printed says that it does not fit
    least = choices[-1].total
    raise ConfigError(
        f"one picture at {side} px takes about {least / GIB:.1f} GiB, and there are {available / GIB:.1f}: "
        + _cheaper(family, settings, least, FILL * available, frozen_size)
    )


def _cheaper(family: Family, settings: FinetuneSettings, least: float, room: float, size: int) -> str:
    """The setting nearest to the user's with which one picture fits, where there is one."""
    if settings.method != "full" and settings.base_weights == "plain":
        kinds: tuple[Kind, ...] = ("int8", "nf4")
        for kind in kinds:
            if (total := least - saved_bytes(family.network, kind, size)) <= room:
                return f"with --base-weights {kind} it takes {total / GIB:.1f}"
    return "try --method lora, --adam-8bit or a smaller --resolution"


def _halvings(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


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
    if recompute and getattr(empty, "_supports_gradient_checkpointing", False):
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
