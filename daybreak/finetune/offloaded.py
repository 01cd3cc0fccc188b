"""Blocks of a frozen base kept in main memory, each brought to the device ahead of its use, there and back.

A block is recomputed in the backward pass (activation checkpointing, arXiv 1604.06174): that brings its weights back a
second time, and all that autograd keeps of it in between is what went in. diffusers' group offloading is for drawing:
it moves what is trained along, and brings back what that was before the step (docs/journal.md).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def offload(network: nn.Module, device: torch.device) -> None:
    """Moves what is not trained of a network's blocks into main memory. Two blocks are on the device at a time: one
    that computes, and the next in the direction in which the pass goes. To be called once what is trained is known.
    """
    # One for all: what a stream has freed is used again by that stream alone.
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    blocks = [_Block(module, device, stream) for module in blocks_of(network)]
    order: list[_Block] = []

    def bring(block: _Block, backwards: bool) -> None:
        if block not in order:  # the first pass tells
            order.append(block)
        place = order.index(block) + (-1 if backwards else 1)
        ahead = order[place] if 0 <= place < len(order) else block
        for other in blocks:
            if other not in (block, ahead):
                other.leave()
        block.start()
        ahead.start()
        block.arrive()

    for block in blocks:
        recomputed(block.module, partial(bring, block))


class _Block:
    """What of a block is not trained: `_home` has it, in main memory, and pinned there for a GPU."""

    def __init__(self, module: nn.Module, device: torch.device, stream: torch.cuda.Stream | None) -> None:
        self.module, self._device, self._stream = module, device, stream
        self._arrived: Any = None  # an event of that stream
        self._tensors: list[Tensor] = frozen_tensors(module)
        self._home = [t.data.cpu().pin_memory() if self._stream else t.data.cpu() for t in self._tensors]
        self._nothing = [_nothing_like(home, device) for home in self._home]
        self._here = True
        self.leave()

    def start(self) -> None:
        """Begins to bring it, beside what the device computes."""
        if self._here:
            return
        self._here = True
        with torch.no_grad(), torch.cuda.stream(self._stream):
            for tensor, home in zip(self._tensors, self._home, strict=True):
                tensor.data = home.to(self._device, non_blocking=True, copy=True)
            if self._stream is not None:
                self._arrived = self._stream.record_event()

    def arrive(self) -> None:
        """What is computed from here on waits until it is there."""
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._arrived)
            for tensor in self._tensors:
                tensor.data.record_stream(stream)
            self._arrived = None

    def leave(self) -> None:
        """Nothing of it is on the device afterwards, but of each tensor one number that stands for all.

        A loss would not be finite if something read it.
        """
        if self._here:
            self._here = False
            for tensor, nothing in zip(self._tensors, self._nothing, strict=True):
                tensor.data = nothing


def _nothing_like(home: Tensor, device: torch.device) -> Tensor:
    value = float("nan") if home.is_floating_point() else 0
    return torch.full((), value, dtype=home.dtype, device=device).expand(home.shape)


def frozen_tensors(module: nn.Module) -> list[Tensor]:
    """Its weights and buffers that are not trained, each once."""
    every = [*module.parameters(), *module.buffers()]
    return list({id(t): t for t in every if not t.requires_grad and t.numel()}.values())


def recomputed(block: nn.Module, before: Callable[[bool], None] = lambda _backwards: None) -> None:
    """Has a block recompute its activations in the backward pass. before: done ahead of it, also then."""
    forward = block.forward
    backwards = False

    @contextmanager
    def again() -> Generator[None]:
        nonlocal backwards
        backwards = True
        try:
            yield
        finally:
            backwards = False

    def brought(*args: Any, **kwargs: Any) -> Any:
        before(backwards)
        return forward(*args, **kwargs)

    def there_and_back(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return brought(*args, **kwargs)
        contexts = {"context_fn": lambda: (nullcontext(), again())}
        return checkpoint(brought, *args, use_reentrant=False, **contexts, **kwargs)

    block.forward = there_and_back


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that work one after the other: those that diffusers never divides, the smallest of them;
    of a network that names none, the members of its outermost lists.
    """
    kinds: Any = getattr(network, "_no_split_modules", None)
    if kinds:
        whole = {module for module in network.modules() if type(module).__name__ in kinds}
        return [m for m in network.modules() if m in whole and not whole.intersection(list(m.modules())[1:])]
    if isinstance(network, nn.ModuleList):
        return list(network)
    return [block for child in network.children() for block in blocks_of(child)]
