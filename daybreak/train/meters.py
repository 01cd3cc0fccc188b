"""What a run measures of itself beside the loss: norms by group, loss by noise level, MFU, memory."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.model.flops import forward_flops
from daybreak.parallel import Ranks, local
from daybreak.train.host_memory import process_peak_bytes

SECONDS = 0.05
"""How long the matmul rate is measured."""


def groups(modules: Mapping[str, nn.Module]) -> dict[str, list[nn.Parameter]]:
    """Trained parameters by what they belong to: the transformer's blocks, its rest, each other module."""
    found: dict[str, list[nn.Parameter]] = {}
    for part, module in modules.items():
        for name, parameter in module.named_parameters():
            inside = part == "transformer" and name.startswith(("blocks.", "text_blocks."))
            group = "transformer_blocks" if inside else "transformer_rest" if part == "transformer" else part
            if parameter.requires_grad:
                found.setdefault(group, []).append(parameter)
    return found


class Norms:
    """Gradient and update norms by group, over one step: made before it, asked after the gradients and after it."""

    def __init__(self, modules: Mapping[str, nn.Module], ranks: Ranks) -> None:
        self._groups, self._ranks = groups(modules), ranks
        self._before = {k: [local(p.detach()).clone() for p in ps] for k, ps in self._groups.items()}
        self._gradients: Tensor | None = None

    def see_gradients(self) -> None:
        """To be called between the backward pass and the update."""
        self._gradients = self._norms([[local(p.grad) for p in ps if p.grad is not None]
                                       for ps in self._groups.values()])  # fmt: skip

    def values(self) -> dict[str, float]:
        """gradient_norm/GROUP (before clipping), and update/GROUP: the norm of the change over that of the weights."""
        now = [[local(p.detach()) for p in ps] for ps in self._groups.values()]
        changes = [torch._foreach_sub(n, b) for n, b in zip(now, self._before.values(), strict=True)]
        relative = self._norms([list(c) for c in changes]) / self._norms(list(self._before.values())).clamp(min=1e-12)
        found = {f"update/{k}": v for k, v in zip(self._groups, relative.tolist(), strict=True)}
        if self._gradients is not None:
            found |= {f"gradient_norm/{k}": v for k, v in zip(self._groups, self._gradients.tolist(), strict=True)}
        return found

    def _norms(self, tensors: list[list[Tensor]]) -> Tensor:
        """One norm for each list, over all ranks."""
        squares = torch.stack(
            [torch.stack(torch._foreach_norm(ts)).float().square().sum() if ts else torch.zeros(()) for ts in tensors]
        )
        return self._ranks.sum_over_shards(squares).sqrt()


class NoiseLevels:
    """A loss in four equal ranges of noise levels, summed over pictures: sums and counts [4] each."""

    COUNT = 4

    def __init__(self, device: torch.device) -> None:
        self.sums, self.counts = torch.zeros(self.COUNT, device=device), torch.zeros(self.COUNT, device=device)

    def add(self, losses: Tensor, levels: Tensor) -> None:
        """Records a batch: the loss of each picture [B], its noise level [B] in [0, 1]."""
        level = (levels * self.COUNT).long().clamp(max=self.COUNT - 1)
        self.sums.index_add_(0, level, losses)
        self.counts.index_add_(0, level, torch.ones_like(losses))


def by_noise_level(levels: NoiseLevels, ranks: Ranks) -> dict[str, float]:
    """loss_at_noise/0.00-0.25 and so on: the mean over all ranks' pictures; ranges without any are absent."""
    both = ranks.mean(torch.cat([levels.sums, levels.counts])).cpu()
    sums, counts = both.split(NoiseLevels.COUNT)
    width = 1 / NoiseLevels.COUNT
    return {
        f"loss_at_noise/{i * width:.2f}-{(i + 1) * width:.2f}": (s / c).item()
        for i, (s, c) in enumerate(zip(sums, counts, strict=True))
        if c > 0
    }


def matmul_rate(lower: bool, device: torch.device) -> float:
    """Multiply-adds that the device really does on large matrices, FLOP/s (two each). lower: in bfloat16."""
    n = 8192 if device.type == "cuda" else 512
    dtype = torch.bfloat16 if lower else torch.float32
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))

    def product() -> None:
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    product()
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        product()
        count += 1
    return 2 * n**3 * count / (time.monotonic() - began)


known_matmul_rate = functools.cache(matmul_rate)
"""As it was first measured in this process: the runs of an ablation share it."""


def transformer_flops(config: Config, text_width: int, text_tokens: int) -> int:
    """Training FLOPs of the transformer for one picture: backward counts twice; recomputation is not useful work."""
    side = config.data.resolution // config.model.patch
    return 3 * sum(forward_flops(config.model, config.routing, text_width, (side, side), text_tokens).values())


def memory_gib(device: torch.device) -> dict[str, float]:
    """host_memory_gib: the most that this process held in main memory; memory_gib: on its GPU, where it has one."""
    found = {"host_memory_gib": process_peak_bytes() / 2**30}
    if device.type == "cuda":
        found["memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return found
