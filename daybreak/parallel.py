"""What rooms share of several processes: who one is among them, sums over all, sharded tensors, and the device."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""While the first process caches, draws or reports, the others wait."""


def pick_device() -> torch.device:
    """A CUDA GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Ranks:
    """This process's number, and how many there are."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of `items`: every world-th."""
        return items[self.rank :: self.world]

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, in the order of their numbers, at every process."""
        if self.world == 1:
            return [value]
        everyones: list[Any] = [None] * self.world
        distributed.all_gather_object(everyones, value)
        return everyones

    def interleave(self, part: Sequence[T]) -> list[T]:
        """Undoes `share`: the whole in its first order, at every process."""
        parts = self.gather(list(part))
        return [parts[i % self.world][i // self.world] for i in range(sum(map(len, parts)))]


@contextmanager
def joined() -> Generator[Ranks]:
    """The processes that torchrun started, or just this one. A group that exists already is used and left as it is."""
    if distributed.is_initialized():
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
        try:
            yield Ranks(distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()
    else:
        yield Ranks()


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Every process gets the mean over all of those that are not sharded; FSDP has done it for the others."""
    for parameter in parameters:
        if not isinstance(parameter, DTensor):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= ranks.world


def total(values: Tensor, ranks: Ranks) -> Tensor:
    """The sum over all processes, on the CPU."""
    values = values.cpu()
    if ranks.world > 1:
        distributed.all_reduce(values)
    return values


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, as a view; any other tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, at every rank; any other tensor itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """What `like` would hold of the tensor `whole`, which every rank has: this rank's rows, or all of it."""
    if not isinstance(like, DTensor):
        return whole
    group = like.device_mesh["shard"] if like.device_mesh.ndim > 1 else like.device_mesh
    start, count = rows_of(whole.shape[0], group.get_local_rank(), group.size())
    return whole[start : start + count]


def rows_of(rows: int, rank: int, world: int) -> tuple[int, int]:
    """(first, count) of the rows that FSDP gives rank `rank` of `world`."""
    each = -(-rows // world)
    start = min(rows, rank * each)
    return start, min(each, rows - start)
