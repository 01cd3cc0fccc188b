"""What a run takes of the GPU's memory, before it starts, and what follows: pictures at once, recomputation."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from daybreak.config import ConfigError
from daybreak.config.fields import fields_of
from daybreak.finetune.activations import kept_bytes
from daybreak.finetune.families import Family
from daybreak.finetune.frozen_weights import Kind, frozen_bytes, saved_bytes
from daybreak.finetune.methods import resting
from daybreak.finetune.offloaded import blocks_of
from daybreak.finetune.settings import FinetuneSettings

GIB = 2**30
CONTEXT = 1.0 * GIB
"""CUDA's own, and what fragments."""
FILL = 0.92
"""Share of the memory that a plan may take."""
RECOMPUTED = 0.15
"""Of the full activations, what the largest recomputed block takes again; measured on SD 1.5's UNet: 0.12."""
FROZEN_SETS: tuple[dict[str, Any], ...] = (
    {"base_weights": "int8"}, {"base_weights": "nf4"}, {"offload": True}, {"base_weights": "int8", "offload": True},
    {"base_weights": "nf4", "offload": True},
)  # fmt: skip
TRAINED_SETS: tuple[dict[str, Any], ...] = ({"adam_8bit": True}, {"adam_8bit": True, "ema": 0.0})
"""What spares memory, the cheapest first: in time, and in what weights and averages lose."""


@dataclass(frozen=True)
class Plan:
    """parts: (name, bytes) that add up to the need of a step; drawing: bytes while samples are drawn, when other
    networks are there, but no gradients; elsewhere: (name, bytes) of what is in main memory in place of the GPU's.

    available: of the device; at_once: pictures; recompute.
    """

    parts: list[tuple[str, float]]
    available: float
    at_once: int
    recompute: bool
    drawing: float = 0.0
    elsewhere: list[tuple[str, float]] = field(default_factory=list)

    @property
    def step(self) -> float:
        """Bytes of a step."""
        return sum(b for _, b in self.parts)

    @property
    def total(self) -> float:
        """Bytes, at their most."""
        return max(self.step, self.drawing)

    @property
    def fits(self) -> bool:
        """Whether it is less than there is."""
        return self.total <= self.available


def device_bytes(device: torch.device) -> float:
    """Memory of the GPU, or of the machine."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@dataclass(frozen=True)
class _Fixed:
    """What does not depend on the pictures at once. See `Plan`."""

    parts: list[tuple[str, float]]
    drawing: float
    elsewhere: list[tuple[str, float]]

    @property
    def total(self) -> float:
        return sum(b for _, b in self.parts)


def _fixed(
    family: Family, settings: FinetuneSettings, trained: int, dtype: torch.dtype, device: torch.device
) -> _Fixed:
    size = torch.empty(0, dtype=dtype).element_size()
    gpu = device.type == "cuda"
    frozen_size = size if gpu and settings.method != "full" else 4
    kind: Kind | None = None if settings.base_weights == "plain" else settings.base_weights
    resting_parts = resting(family, settings)
    frozen = held_bytes(family.network, frozen_size, kind)
    at_rest = sum(held_bytes(part, frozen_size) for part in resting_parts)
    working = {id(family.network), *map(id, resting_parts)}
    read = sum(held_bytes(part, frozen_size) for part in family.parts() if id(part) not in working)
    elsewhere = []
    if settings.offload:
        blocks = [held_bytes(block, frozen_size, kind) for block in blocks_of(family.network)]
        elsewhere.append(("the denoiser's blocks", sum(blocks)))
        frozen -= sum(blocks) - sum(sorted(blocks)[-2:])
    if gpu:
        elsewhere.append(("text encoders and autoencoder, but for drawing", at_rest))
    moments = 2.0 if settings.adam_8bit else 8.0
    averaged = 4.0 * trained if settings.ema else 0.0
    parts = [
        ("weights, frozen", frozen + read),
        ("text encoders and autoencoder", 0.0 if gpu else at_rest),
        ("weights, trained (float32)", 4.0 * trained),
        ("gradients", 4.0 * trained),
        (f"optimiser ({'8' if settings.adam_8bit else '32'} bit)", moments * trained),
        ("averaged weights", averaged),
        ("weights as the forward pass casts them", float(size) * trained if size < 4 else 0.0),
        ("the device's own", CONTEXT if gpu else 0.0),
    ]
    # The trained weights are kept aside while the averaged ones are in their place.
    drawing = frozen + read + at_rest + (4.0 + moments) * trained + 2 * averaged + (CONTEXT if gpu else 0.0)
    return _Fixed(parts, drawing, elsewhere)


def held_bytes(network: nn.Module, size: int, kind: Kind | None = None) -> float:
    """What the weights of a network that are not trained take at `size` bytes a number, its linear layers in few bits
    where they are, or would be by `kind`.
    """
    total = 0.0
    for module in network.modules():
        own = sum(p.numel() for p in module.parameters(recurse=False) if not p.requires_grad)
        total += own * size
        if kind is not None and type(module) is nn.Linear and not module.weight.requires_grad:
            total -= saved_bytes(module, kind, size)
    return total + frozen_bytes(network)


def make_plan(
    family: Family, settings: FinetuneSettings, trained: int, side: int, dtype: torch.dtype, device: torch.device
) -> Plan:
    """The plan with the largest micro-batch that fits, without recomputation if one of at least four does.

    `trained`: numbers that are trained. What the settings fix stays fixed. ConfigError where not even one picture fits.
    """
    available = device_bytes(device)
    room = FILL * available
    size = torch.empty(0, dtype=dtype).element_size()
    fixed = _fixed(family, settings, trained, dtype, device)
    full = kept_bytes(family, settings, side, recompute=False) * size / 4
    sizes = [settings.micro_batch] if settings.micro_batch else _halvings(settings.batch)
    enough = min(4, sizes[0])

    def plans(recompute: bool) -> list[Plan]:
        one = full
        if recompute:
            one = kept_bytes(family, settings, side, recompute=True) * size / 4 + RECOMPUTED * full
        found = []
        for n in sizes:
            parts = [*fixed.parts, (f"activations of {n} pictures", n * one)]
            own = [p for p in parts if p[1] > 0]
            found.append(Plan(own, available, n, recompute, fixed.drawing, fixed.elsewhere))
        return found

    choices = plans(bool(settings.recompute) or settings.offload)
    fitting = [c for c in choices if c.total <= room]
    if settings.recompute is None and not settings.offload and not any(c.at_once >= enough for c in fitting):
        choices = plans(True)  # counted only where it is needed: it takes as long as the first count
        fitting += [c for c in choices if c.total <= room]
    if fitting:
        return max(fitting, key=lambda c: (c.at_once, not c.recompute))
    if settings.micro_batch is not None:
        return choices[-1]  # the user's word; the plan that is printed says that it does not fit
    least = choices[-1]
    pictures = least.step - fixed.total

    def needs(other: FinetuneSettings) -> float:
        would = _fixed(family, other, trained, dtype, device)
        return max(would.total + pictures, would.drawing)

    raise ConfigError(
        f"one picture at {side} px takes about {least.total / GIB:.1f} GiB, and there are {available / GIB:.1f}: "
        + _cheaper(settings, needs, room)
    )


def _cheaper(settings: FinetuneSettings, needs: Callable[[FinetuneSettings], float], room: float) -> str:
    """The cheapest set of settings beside the user's with which one picture fits, where there is one."""
    for changes in TRAINED_SETS if settings.method == "full" else FROZEN_SETS:
        new = {name: value for name, value in changes.items() if getattr(settings, name) != value}
        kept_in_few = "base_weights" in new and settings.base_weights != "plain"
        if new and not kept_in_few and (total := needs(replace(settings, **new))) <= room:
            fields = fields_of(FinetuneSettings)
            flags = " ".join(
                fields[n].flag if v is True else f"{fields[n].flag} {fields[n].shown(v)}" for n, v in new.items()
            )
            return f"with {flags} it takes {total / GIB:.1f}"
    if settings.method == "full":
        return "try --method lora, --adam-8bit or a smaller --resolution"
    return "try a smaller --resolution"


def _halvings(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes
