"""The averaged weights that sampling and scoring use."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from daybreak.parallel import local

M = TypeVar("M", bound=nn.Module)


def averaged_copy(module: M) -> M:
    """A frozen copy to average into."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """average = d average + (1 - d) module, with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps keeps the random initial weights from lingering in the average of a short run.
    """
    d = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_([local(p) for p in average.parameters()], [local(p) for p in module.parameters()], 1 - d)
