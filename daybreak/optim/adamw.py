"""AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101), as torch.optim.AdamW computes it, to the bit.

On a CPU with fused=True, one pass for each parameter, and with foreach=True elsewhere. torch's own imports its compiler
at the first step, which takes a second (compiler.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from daybreak.parallel import local


class AdamW(torch.optim.Optimizer):
    """State of each parameter: step (a scalar), exp_avg and exp_avg_sq. Sharded parameters keep their rows' share."""

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            by_step: dict[int, list[Tensor]] = {}  # those that were left out of steps are behind the others
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_step.setdefault(self._next(parameter), []).append(parameter)
            for step, parameters in by_step.items():
                self._update(parameters, group, step)

    def _next(self, parameter: Tensor) -> int:
        """The number of the step that a parameter is about to take, from 1; its state is made at the first."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        return int(state["step"])

    def _update(self, parameters: list[Tensor], group: dict[str, Any], step: int) -> None:
        weights = [local(p) for p in parameters]
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        means, squares = ([local(self.state[p][k]) for p in parameters] for k in ("exp_avg", "exp_avg_sq"))
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        if fuses(weights[0]):
            torch._fused_adamw_(
                weights, gradients, means, squares, [], [self.state[p]["step"] for p in parameters],
                lr=lr, beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False,
                maximize=False,
            )  # fmt: skip
            return
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        divisors = torch._foreach_sqrt(squares)
        torch._foreach_div_(divisors, (1 - beta2**step) ** 0.5)
        torch._foreach_add_(divisors, group["eps"])
        torch._foreach_addcdiv_(weights, means, divisors, -(lr / (1 - beta1**step)))


def fuses(weight: Tensor) -> bool:
    """Whether torch's fused kernel is taken. Elsewhere than on a CPU it wants the number of steps there, too."""
    return weight.device.type == "cpu"
