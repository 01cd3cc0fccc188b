"""Reads batches ahead of the training loop, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

from daybreak.data.batch import Batch, Source

AHEAD = 4
"""Batches in preparation at a time."""


def stream(source: Source, position: int, batch: int, workers: int) -> Generator[Batch]:
    """Batches of `batch` samples from sample number `position` on, without end.

    The order does not depend on `workers`, the number of threads that prepare batches; with 0 each batch is prepared
    when it is asked for. An error in a thread is raised here.
    """
    if workers == 0:
        while True:
            yield source.batch(position, batch)
            position += batch
    pool = ThreadPoolExecutor(workers, thread_name_prefix="data")
    pending: deque[Future[Batch]] = deque()
    try:
        while True:
            while len(pending) < AHEAD:
                pending.append(pool.submit(source.batch, position, batch))
                position += batch
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
