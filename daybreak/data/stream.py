"""Reads batches ahead of the training loop, in threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from daybreak.data.batch import Batch, Source

AHEAD = 4
"""Batches in preparation at a time, or two a thread where that is more."""


def stream(source: Source, position: int, batch: int, workers: int, stride: int | None = None) -> Stream:
    """Batches of `batch` samples from sample number `position` on, without end.

    `stride`: samples from the start of one batch to that of the next, where other processes take those between.

    The order does not depend on `workers`, the number of threads that prepare batches; with 0 each batch is prepared
    when it is asked for. An error in a thread is raised by the `next` that would give its batch.
    """
    return Stream(source, position, batch, workers, stride)


class Stream(Iterator[Batch]):
    """Batches one after another. `waited_seconds`: time that the loop has spent waiting for them."""

    def __init__(self, source: Source, position: int, batch: int, workers: int, stride: int | None = None) -> None:
        self.waited_seconds = 0.0
        self._stride = stride or batch
        self._source, self._position, self._batch = source, position, batch
        self._ahead = max(AHEAD, 2 * workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="data") if workers else None
        self._pending: deque[Future[Batch]] = deque()
        self._pin = torch.cuda.is_available()

    def __next__(self) -> Batch:
        began = time.monotonic()
        if self._pool is None:
            batch = self._prepare(self._advance())
        else:
            while len(self._pending) < self._ahead:
                self._pending.append(self._pool.submit(self._prepare, self._advance()))
            batch = self._pending.popleft().result()
        self.waited_seconds += time.monotonic() - began
        return batch

    def _advance(self) -> int:
        position = self._position
        self._position += self._stride
        return position

    def _prepare(self, position: int) -> Batch:
        batch = self._source.batch(position, self._batch)
        # From pinned memory a copy to the GPU runs beside the computation.
        return batch.pinned() if self._pin else batch

    def close(self) -> None:
        """Ends the threads; batches in preparation are finished first, those behind them are not begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __del__(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
