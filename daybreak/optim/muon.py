"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

from daybreak.optim.sharded import exchange, shard_group
from daybreak.parallel import is_sharded, local

Quintic = tuple[float, float, float]
"""a, b, c of the polynomial a x + b x^3 + c x^5 that a step applies to every singular value."""

QUINTIC: list[Quintic] = [(3.4445, -4.7750, 2.0315)] * 5
"""Steep at 0, so small singular values rise fast; it settles within about 0.3 of 1 (Jordan et al. 2024)."""

POLAR_EXPRESS: list[Quintic] = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
]
"""Each step the best for the interval that the one before left, from singular values in [0.001, 1] (Polar Express,
arXiv 2505.16932, table of degree-5 coefficients)."""
POLAR_EXPRESS_MARGIN = 1.01
"""The first polynomials diverge just above 1, which rounding can reach: singular values start this much lower."""

GRAM_ITERATIONS_IN_HALF = 2
"""So many iterations on one Gram matrix in bfloat16, then it is computed anew: 6 % off the exact result, as the plain
iterations are; with three at a time 13 %, with all five nothing is left of it. Polar Express does not bear two: its
first polynomials are so steep that rounding carries small singular values beyond 1, from where they diverge."""

POLYNOMIALS = {"quintic": QUINTIC, "polar_express": POLAR_EXPRESS}


def orthogonalize(m: Tensor, polynomials: list[Quintic] = QUINTIC) -> Tensor:
    """Pushes every singular value of each matrix towards 1: m [B, R, C] -> [B, R, C] of the same dtype.

    The matrices of a batch are orthogonalised together.
    """
    margin = POLAR_EXPRESS_MARGIN if polynomials is POLAR_EXPRESS else 1.0
    tall = m.shape[-2] > m.shape[-1]
    x = (m.mT if tall else m).contiguous()
    x = x / (margin * x.norm(dim=(-2, -1), keepdim=True)).clamp(min=1e-7)  # singular values in [0, 1]
    on_grams = x.dtype == torch.float32 or (x.device.type == "cpu" and polynomials is QUINTIC)
    if on_grams and x.shape[-1] >= 2 * x.shape[-2]:
        at_once = len(polynomials) if x.dtype == torch.float32 else GRAM_ITERATIONS_IN_HALF
        for start in range(0, len(polynomials), at_once):
            x = _polynomial_of_gram(x, polynomials[start : start + at_once]) @ x
    else:
        for a, b, c in polynomials:
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _polynomial_of_gram(x: Tensor, polynomials: list[Quintic]) -> Tensor:
    """The matrix Q for which Q x is the result of the iterations on a wide x: [B, R, C] -> [B, R, R].

    Each iteration multiplies x from the left by a polynomial of its Gram matrix, so the iteration can run on R x R
    matrices alone; at C = 7 R that is less than half of the work. It squares the condition number, which float32 bears
    and bfloat16 for `GRAM_ITERATIONS_IN_HALF`.
    """
    gram, product = x @ x.mT, None
    for step, (a, b, c) in enumerate(polynomials):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        product = p if product is None else p @ product
        if step < len(polynomials) - 1:
            gram = p @ gram @ p
    assert product is not None
    return product


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters, with the step's size matched to AdamW's.

    The update of an R x C matrix is scaled by 0.2 sqrt(max(R, C)), which gives it the root mean square that AdamW's
    updates have (Moonlight, arXiv 2502.16982, eq. 4): one learning rate suits both. Agrees step by step with
    `torch.optim.Muon(..., adjust_lr_fn="match_rms_adamw")`; differs in that matrices of equal shape share one batched
    Newton-Schulz, and that its precision is a choice: bf16 where the hardware multiplies it, float32 elsewhere.

    `polynomials`: QUINTIC or POLAR_EXPRESS. `row_beta`: NorMuon (arXiv 2510.05491), which divides each row of the
    orthogonalised update by the root of a running mean of its squares, so that no neuron moves more than others; None:
    plain Muon. `every`: a matrix moves at one step in so many, by as much more, and gathers momentum at the others; a
    different share of the matrices moves at each step. Raises ValueError for a parameter that is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        polynomials: str = "quintic",
        row_beta: float | None = None,
        dtype: torch.dtype = torch.float32,
        every: int = 1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype, self.polynomials, self.row_beta, self.every = dtype, POLYNOMIALS[polynomials], row_beta, every
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
            if params := [p for p in group["params"] if p.grad is not None]:
                self._step_group(params, group)

    def _step_group(self, params: list[Tensor], group: dict) -> None:
        """Sharded parameters (DTensors): all but the orthogonalisation is done on each rank's own rows."""
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        mu, lr = group["momentum"], group["lr"] * self.every
        grads, buffers = self._gradients(params)
        torch._foreach_lerp_(buffers, grads, 1 - mu)  # m = mu m + (1 - mu) g
        params = [p for i, p in enumerate(params) if self._moves(p, i)]
        if not params:
            return
        mine, (grads, buffers) = [local(p) for p in params], self._gradients(params)
        look_ahead = torch._foreach_lerp(grads, buffers, mu)  # Nesterov: (1 - mu) g + mu m
        lowered = [m.to(self.dtype) for m in look_ahead]
        ranks = shard_group(params[0])
        if ranks is None:
            updates = self._orthogonalize(lowered)
        else:
            updates = exchange(lowered, [p.shape for p in params], ranks, self._orthogonalize)
        updates = [u.to(p.dtype) for u, p in zip(updates, mine, strict=True)]
        if self.row_beta is not None:
            updates = self._equal_rows(updates, params, ranks)
        if group["weight_decay"]:
            torch._foreach_mul_(mine, 1 - lr * group["weight_decay"])
        torch._foreach_mul_(updates, [-lr * 0.2 * max(p.shape) ** 0.5 for p in params])
        torch._foreach_add_(mine, updates)

    def _gradients(self, params: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """This rank's rows of the gradients and of the momentum."""
        return [local(p.grad) for p in params if p.grad is not None], [local(self.state[p]["momentum"]) for p in params]

    def _moves(self, parameter: Tensor, place: int) -> bool:
        """Whether a matrix moves at this step, which is counted; its place among the others shifts its turn."""
        if self.every == 1:
            return True
        state = self.state[parameter]
        state["step"] = state.get("step", torch.zeros((), dtype=torch.float32)) + 1
        return (int(state["step"]) + place) % self.every == 0

    def _orthogonalize(self, matrices: list[Tensor]) -> list[Tensor]:
        """Each matrix [R, C] orthogonalised; those of equal shape together."""
        by_shape: dict[torch.Size, list[int]] = {}
        for i, m in enumerate(matrices):
            by_shape.setdefault(m.shape, []).append(i)
        results = list(matrices)
        for places in by_shape.values():
            batch = orthogonalize(torch.stack([matrices[i] for i in places]), self.polynomials)
            for i, result in zip(places, batch.unbind(), strict=True):
                results[i] = result
        return results

    def _equal_rows(self, updates: list[Tensor], params: list[Tensor], ranks: ProcessGroup | None) -> list[Tensor]:
        """NorMuon's second step (algorithm 1, lines 7 to 10): [R, C] each -> the same with its root mean square."""
        assert self.row_beta is not None
        for p in params:
            if "row_square" not in self.state[p]:
                self.state[p]["row_square"] = rows_like(p)
        means = [local(self.state[p]["row_square"]) for p in params]
        torch._foreach_lerp_(means, [u.square().mean(dim=1) for u in updates], 1 - self.row_beta)
        scaled = [u / (m.sqrt()[:, None] + 1e-8) for u, m in zip(updates, means, strict=True)]
        squares = torch.stack([torch.stack([u.square().sum(), s.square().sum()])
                               for u, s in zip(updates, scaled, strict=True)])  # fmt: skip
        if ranks is not None:
            distributed.all_reduce(squares, group=ranks)
        sizes = squares.sqrt()  # [n, 2]: before and after
        factors = sizes[:, 0] / sizes[:, 1].clamp(min=1e-12)
        return [s * f for s, f in zip(scaled, factors.unbind(), strict=True)]


def rows_like(parameter: Tensor) -> Tensor:
    """Zeros, one for each row of a matrix [R, C], spread over the ranks as its rows are."""
    zeros = local(parameter).new_zeros(local(parameter).shape[0])
    if not is_sharded(parameter):
        return zeros
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        zeros, parameter.device_mesh, parameter.placements, run_check=False, shape=parameter.shape[:1], stride=(1,)
    )
