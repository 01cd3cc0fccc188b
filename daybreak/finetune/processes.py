"""Several processes on one run (torchrun, accelerate launch): each takes some micro-batches, gradients are summed.

All draw the same random numbers and hold the same weights, so that the first one alone writes files and draws.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed, nn

from daybreak.evaluate.ranks import Ranks

PATIENCE = timedelta(hours=6)
"""While the first process caches, draws or reports, the others wait."""


@contextmanager
def joined() -> Generator[Ranks]:
    """The processes that torchrun started, or just this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def sum_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Every process gets the sum over all; a process without work has none of its own."""
    if ranks.world == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        distributed.all_reduce(parameter.grad)


def total(values: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """The sum over all processes, on the CPU."""
    values = values.cpu()
    if ranks.world > 1:
        distributed.all_reduce(values)
    return values
