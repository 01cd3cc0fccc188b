"""What rooms share of several processes: who one is among them, sums over all, sharded tensors, and the device."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
from torch import Tensor, distributed, nn

from daybreak.allocator import keep_freed_memory
from daybreak.products import choose_products

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""While the first process caches, draws or reports, the others wait."""


def pick_device() -> torch.device:
    """A CUDA GPU where there is one, else the CPU, with the faster products that it has and freed memory kept."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    choose_products()
    keep_freed_memory()
    return torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """The processes that train, draw or measure together, as this one sees them: its number, and how many there are.

    mesh: how weights are spread over them; None where they are not.
    """

    rank: int = 0
    world: int = 1
    mesh: DeviceMesh | None = None

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of `items`: every world-th."""
        return items[self.rank :: self.world]

    def rows(self, batch: int) -> slice:
        """This process's rows of a batch for all."""
        each = batch // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def wait(self) -> None:
        """Returns once every process is here."""
        if self.world > 1:
            distributed.barrier()

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

    def agree(self, of_first: list[float], of_any: list[bool]) -> tuple[list[float], list[bool]]:
        """The first process's numbers, and for each flag whether any process has it, at every process."""
        if self.world == 1:
            return of_first, of_any
        mine = of_first if self.first else [0.0] * len(of_first)
        both = torch.tensor([*mine, *map(float, of_any)], dtype=torch.float64)
        distributed.all_reduce(both)
        values = both.tolist()
        return values[: len(of_first)], [v > 0 for v in values[len(of_first) :]]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of every process's `values` [n], at every process."""
        if self.world > 1:
            distributed.all_reduce(values, op=distributed.ReduceOp.SUM)
            values = values / self.world
        return values

    def sum_over_shards(self, values: Tensor) -> Tensor:
        """The sum of `values` [n] over the processes that share one copy of the weights."""
        if self.mesh is not None:
            distributed.all_reduce(values, group=self.mesh.get_group("shard"))
        return values


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
        if not is_sharded(parameter):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= ranks.world


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether it is spread over processes. Asked of its form, for the class takes half a second to import."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, as a view; any other tensor itself."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, at every rank; any other tensor itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """What `like` would hold of the tensor `whole`, which every rank has: this rank's rows, or all of it."""
    if not is_sharded(like):
        return whole
    group = like.device_mesh["shard"] if like.device_mesh.ndim > 1 else like.device_mesh
    start, count = rows_of(whole.shape[0], group.get_local_rank(), group.size())
    return whole[start : start + count]


def rows_of(rows: int, rank: int, world: int) -> tuple[int, int]:
    """(first, count) of the rows that FSDP gives rank `rank` of `world`."""
    each = -(-rows // world)
    start = min(rows, rank * each)
    return start, min(each, rows - start)
