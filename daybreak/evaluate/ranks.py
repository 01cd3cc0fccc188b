"""Several processes that evaluate together: started by torchrun, or the ranks of a training run."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")


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
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("gloo")
        try:
            yield Ranks(distributed.get_rank(), distributed.get_world_size())
        finally:
            distributed.destroy_process_group()
    else:
        yield Ranks()
