"""The gradient of a step, computed with all cores.

On a CPU the tensors of a small model are too small to be split well over cores operation by operation: two cores gave
1.7 times one core's speed. So each core takes a share of the batch instead, in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from daybreak.data.batch import Batch
from daybreak.train.step import StepRandomness

LEAST_SHARE = 8
"""Fewer pictures than this are not worth a thread."""

Loss = Callable[[Batch, StepRandomness], tuple[Tensor, dict[str, Tensor]]]


class GradientWorkers:
    """Adds the gradient of a batch's mean loss to `.grad`: on a CPU by threads, each with its share of the pictures."""

    def __init__(self, parameters: list[nn.Parameter], device: torch.device) -> None:
        self._parameters = parameters
        self._cores = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._cores, initializer=torch.set_num_threads, initargs=(1,))

    def backward(self, loss_of: Loss, batch: Batch, random: StepRandomness) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean loss and its terms. The shares, and so the result, depend on the number of cores alone."""
        shares = max(1, min(self._cores, len(batch) // LEAST_SHARE))
        if shares == 1:
            loss, terms = loss_of(batch, random)
            loss.backward()
            return loss.detach(), terms
        bounds = [round(i * len(batch) / shares) for i in range(shares + 1)]

        def one(low: int, high: int) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
            part = Batch(batch.images[low:high], batch.captions[low:high])
            loss, terms = loss_of(part, random.rows(low, high))
            weight = (high - low) / len(batch)
            grads = torch.autograd.grad(weight * loss, self._parameters)
            return weight * loss.detach(), {k: weight * v for k, v in terms.items()}, grads

        results = list(self._pool.map(one, bounds[:-1], bounds[1:]))
        for i, p in enumerate(self._parameters):
            p.grad = sum((grads[i] for _, _, grads in results[1:]), start=results[0][2][i])
        loss = sum((r[0] for r in results[1:]), start=results[0][0])
        terms = {k: sum((r[1][k] for r in results[1:]), start=v) for k, v in results[0][1].items()}
        return loss, terms

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
