"""One training step, top to bottom; the trainee says what a batch's loss is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.parallel import Ranks, average_gradients, full, is_sharded, local
from daybreak.train.distributed import computing, synchronise
from daybreak.train.guard import TrainingError
from daybreak.train.meters import NoiseLevels
from daybreak.train.trainee import Trainee


def backward(
    trainee: Trainee, batch: Any, random: Any, config: Config, progress: float, at_once: int,
    levels: NoiseLevels | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Adds up the gradient of the batch's loss, at most `at_once` pictures at a time.

    Returns the loss and its unweighted terms by name, detached.
    """
    n = len(batch)
    modules = [computing(m) for m in trainee.trained_modules().values()]
    totals: dict[str, Tensor] = {}
    for rows in trainee.parts(batch, at_once):
        whole = rows == slice(0, n)
        part = batch if whole else batch.rows(rows)
        synchronise(modules, now=rows.stop == n)
        share = len(part) / n
        with trainee.autocast():
            loss, terms = trainee.loss(part, random if whole else random.rows(rows), config, progress, share, levels)
        scaled = loss if trainee.scaler is None else trainee.scaler.scale(loss)
        scaled.backward()
        totals[""] = totals.get("", 0) + loss.detach().float()
        for name, value in terms.items():
            totals[name] = totals.get(name, 0) + share * value.float()
    return totals.pop(""), totals


class Step:
    """Gradients of a run's batches, with fewer pictures at once from the moment on that a GPU's memory is full."""

    def __init__(self, trainee: Trainee, ranks: Ranks, note: Callable[[str], None]) -> None:
        self._trainee, self._ranks, self._note = trainee, ranks, note
        self._at_once: int | None = None

    def backward(
        self, batch: Any, config: Config, progress: float, watched: bool
    ) -> tuple[Tensor, dict[str, Tensor], NoiseLevels | None]:
        """Gradients of a batch, the mean of all processes'; its loss and terms there, and the loss by noise level."""
        trainee, ranks, n = self._trainee, self._ranks, len(batch)
        # Drawn for all ranks at once, so that nothing depends on how many there are.
        random = trainee.random(batch, config)
        if ranks.world > 1:
            random = random.rows(ranks.rows(config.train.batch))
        while True:
            levels = NoiseLevels(trainee.device) if watched else None
            at_once = min(n, self._at_once or config.train.microbatch or n)
            try:
                mean, terms = backward(trainee, batch, random, config, progress, at_once, levels)
                break
            except torch.cuda.OutOfMemoryError:
                if at_once == 1 or ranks.world > 1:  # several would have to begin anew together
                    raise TrainingError(self._too_large(at_once)) from None
            for optimizer in trainee.optimizers:
                optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            self._at_once = max(1, at_once // 2)
            self._note(
                f"the GPU's memory is full: {self._at_once} pictures at once from here on; the result is the same"
            )
        if ranks.world > 1:
            average_gradients(trainee.parameters(), ranks)
        return mean, terms, levels

    def _too_large(self, at_once: int) -> str:
        if at_once == 1:
            return f"one picture does not fit into the GPU's memory: try {self._trainee.smaller}"
        return f"{at_once} pictures do not fit into a GPU's memory: try a train.microbatch of {at_once // 2}"


def clip_and_step(
    parameters: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], clip_norm: float, lr_factor: float,
    accept: Callable[[float], bool], scaler: torch.amp.GradScaler | None = None,
) -> tuple[float, bool]:  # fmt: skip
    """Clips the gradients to `clip_norm`, applies one update at `lr_factor` times the base rates, clears them.

    Returns the gradients' norm before clipping, and whether `accept` took it: else nothing is applied.
    """
    if scaler is not None:
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
    norm = gradient_norm(parameters)
    accepted = accept(norm.item())
    if accepted:
        grads = [local(p.grad) for p in parameters if p.grad is not None]
        torch._foreach_mul_(grads, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                rate = group["base_lr"] * lr_factor
                if isinstance(group["lr"], Tensor):  # torchao's, whose compiled step reads the rate from memory
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
    if scaler is not None:
        scaler.update()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return norm.item(), accepted


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together: a scalar, the same at every rank."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    sharded = [g for g in gradients if is_sharded(g)]
    if len(sharded) in (0, len(gradients)):
        return full(torch.nn.utils.get_total_norm(gradients))
    plain = [g for g in gradients if not is_sharded(g)]
    return torch.hypot(*(full(torch.nn.utils.get_total_norm(some)) for some in (sharded, plain)))
