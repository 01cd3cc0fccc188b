"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""The quintic a x + b x^3 + c x^5: steep at 0, so small singular values rise fast; it settles within about 0.3 of 1."""


def orthogonalize(m: Tensor, steps: int = 5) -> Tensor:
    """Pushes every singular value of each matrix towards 1: m [B, R, C] -> [B, R, C] of the same dtype.

    The matrices of a batch are orthogonalised together.
    """
    a, b, c = COEFFICIENTS
    tall = m.shape[-2] > m.shape[-1]
    x = (m.mT if tall else m).contiguous()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # singular values in [0, 1]
    if x.dtype == torch.float32 and x.shape[-1] >= 2 * x.shape[-2]:
        x = _polynomial_of_gram(x, steps) @ x
    else:
        for _ in range(steps):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _polynomial_of_gram(x: Tensor, steps: int) -> Tensor:
    """The matrix Q for which Q x is the result of `steps` iterations on a wide x: [B, R, C] -> [B, R, R].

    Each iteration multiplies x from the left by a polynomial of its Gram matrix, so the iteration can run on R x R
    matrices alone; at C = 7 R that is less than half of the work. It squares the condition number, which float32 bears.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    product = torch.eye(gram.shape[-1], dtype=x.dtype, device=x.device).expand_as(gram)
    for step in range(steps):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        product = p @ product
        if step < steps - 1:
            gram = p @ gram @ p
    return product


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters, with the step's size matched to AdamW's.

    The update of an R x C matrix is scaled by 0.2 sqrt(max(R, C)), which gives it the root mean square that AdamW's
    updates have (Moonlight, arXiv 2502.16982, eq. 4): one learning rate suits both. Agrees step by step with
    `torch.optim.Muon(..., adjust_lr_fn="match_rms_adamw")`; differs in that matrices of equal shape share one batched
    Newton-Schulz, and that its precision is a choice: bf16 where the hardware multiplies it, float32 elsewhere.

    Raises ValueError for a parameter that is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})
        self.dtype = dtype
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon takes matrices; got a parameter of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon does not take a closure")
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for params in by_shape.values():
                self._step_equal_shapes(params, group)

    def _step_equal_shapes(self, params: list[Tensor], group: dict) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads = [p.grad for p in params if p.grad is not None]
        buffers = [self.state[p]["momentum"] for p in params]
        mu, lr = group["momentum"], group["lr"]
        torch._foreach_lerp_(buffers, grads, 1 - mu)  # m = mu m + (1 - mu) g
        look_ahead = torch._foreach_lerp(grads, buffers, mu)  # Nesterov: (1 - mu) g + mu m
        updates = orthogonalize(torch.stack(look_ahead).to(self.dtype), group["steps"]).to(params[0].dtype)
        rows, columns = params[0].shape
        scale = 0.2 * max(rows, columns) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, list(updates.unbind()), alpha=-lr * scale)
