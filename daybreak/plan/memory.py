"""GPU memory of a training step: what weights take when they are sharded, and what the backward pass keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import split_parameters
from daybreak.plan.account import StagePlan, inputs_of

USABLE = 0.92
"""Of a GPU's memory: the rest is the driver's, the communication's and lost in gaps."""
LOW = 2
"""Bytes of a bfloat16 number, in which a GPU computes."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU: states (sharded weights, gradients, optimiser, average), working (a few gathered blocks, frozen
    networks), each (what one picture's backward pass keeps)."""

    states: float
    working: float
    each: float

    def of(self, pictures: int) -> float:
        """Bytes with this many pictures at a time."""
        return self.states + self.working + pictures * self.each

    def largest(self, memory: float) -> int:
        """Most pictures at a time in `memory` bytes."""
        return max(0, int((USABLE * memory - self.states - self.working) / self.each))


def memory_of(plan: StagePlan, text_width: int, text_tokens: int, shards: int) -> Memory:
    """What a stage takes on each of `shards` GPUs that share the weights."""
    c = plan.config
    counted = _counted(c, text_width, text_tokens)
    matrices = counted.matrices if c.optim.matrices != "adamw" else 0
    trained = sum(p.parameters for p in plan.parts if p.trained)
    frozen = sum(p.parameters for p in plan.parts if not p.trained)
    averages = 1 + len(c.train.posthoc_ema)
    states = (4 + 4 + 4 * averages) * trained + 4 * matrices + 8 * (trained - matrices)
    rest = trained - counted.block * c.model.depth
    gathered = LOW * (2 * counted.block + rest) if shards > 1 else 0
    # Losses' networks that pass a gradient back keep activations too: about what their forward pass reads and writes.
    through = sum(p.forward for p in plan.parts if p.name in ("LPIPS", "DINO"))
    forward = sum(p.forward for p in plan.parts if p.name in ("blocks", "embeddings and last layer"))
    share = counted.kept / max(1, forward)
    return Memory(states / shards, gathered + LOW * frozen, counted.kept + share * through)


@dataclass(frozen=True)
class _Counted:
    """Numbers in the transformer's matrices and in its largest block; bytes that one picture's backward pass keeps."""

    matrices: int
    block: int
    kept: float


@lru_cache(maxsize=4)
def _counted(c: Config, text_width: int, text_tokens: int) -> _Counted:
    """Of a stage's transformer, whatever it is trained on: counted once for all machines."""
    with torch.device("meta"):
        transformer = Transformer(c.model, text_width, c.routing)
    muon, _ = split_parameters({"transformer": transformer})
    block = max(sum(p.numel() for p in b.parameters()) for b in transformer.blocks)
    kept = saved_bytes(transformer, c, text_width, text_tokens)
    return _Counted(sum(p.numel() for p in muon.values()), block, kept)


def saved_bytes(transformer: Transformer, config: Config, text_width: int, text_tokens: int) -> float:
    """What the backward pass of one picture keeps of the forward pass: counted on tensors without values."""
    inputs = inputs_of(config, text_width, text_tokens)
    total = _count(lambda: transformer(*inputs), transformer)
    if config.model.recompute:  # inputs of the blocks, and the inside of one
        inside = total / max(1, config.model.depth)
        tokens = (config.data.resolution // config.model.patch) ** 2
        total = inside + LOW * config.model.depth * (tokens + text_tokens) * config.model.width
    return total


def _count(run: Callable[[], object], network: nn.Module) -> float:
    """Bytes that autograd saves while `run` runs, parameters left out, floats as bfloat16."""
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    seen: set[int] = set()
    held: list[Tensor] = []  # so that no storage is freed and counted for another
    total = 0.0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        key = tensor.untyped_storage()._cdata
        if key not in own and key not in seen:
            seen.add(key)
            held.append(tensor)
            size = LOW if tensor.is_floating_point() else tensor.element_size()
            total += tensor.untyped_storage().nbytes() / tensor.element_size() * size
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run()
    return total
