"""Runs work that needs a model, a shard a task: in this process, on this machine's GPUs, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

from daybreak.data.engines import cluster
from daybreak.data.engines.tasks import in_processes
from daybreak.data.settings import Engine, Work
from daybreak.parallel import pick_device

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Job(Protocol[T_co]):
    """What a worker is told; picklable."""

    def open(self, device: torch.device) -> Callable[[int], T_co]:
        """Loads the model; what comes back does the work on the shard of a number. Raises ConfigError."""
        ...


def run_on_shards(
    job: Job[T], left: list[int], shards: int, how: Work, progress: Callable[[int, int], None]
) -> Iterator[T]:
    """`run_on_models` on the shards that are `left` of `shards`; `progress` is called with (done, shards)."""
    done = shards - len(left)
    progress(done, shards)
    for result in run_on_models(job, left, how.workers, how.engine):
        done += 1
        progress(done, shards)
        yield result


def run_on_models(job: Job[T], tasks: list[int], workers: int | None, engine: Engine) -> Iterator[T]:
    """The job's work on each task, as they finish; the model is loaded once a worker, and not where no task is left.

    Workers are GPUs where there are any; else `workers` processes, and none is this one alone. On Ray see
    `cluster.run_on_actors`. Raises ConfigError for more workers than GPUs, and where a worker dies.
    """
    if not tasks:
        return
    if engine == "ray":
        yield from cluster.run_on_actors(partial(_open_anywhere, job), tasks, workers)
        return
    gpus = torch.cuda.device_count()
    n = min(cluster.number_of_workers(workers, gpus) or 0, len(tasks))
    if n == 0 or (workers is None and n == 1):
        work = _open_anywhere(job)
        yield from map(work, tasks)
        return
    devices = multiprocessing.get_context("spawn").SimpleQueue()
    for i in range(n):
        devices.put(f"cuda:{i}" if gpus else "cpu")
    yield from in_processes(_work_in_process, ((t,) for t in tasks), n, _start_process, job, devices, n)


def _open_anywhere(job: Job[T]) -> Callable[[int], T]:
    """On the GPU that this process sees, else the CPU."""
    return job.open(pick_device())


_job: Any = None
_device = torch.device("cpu")
_work: Callable[[int], Any] | None = None
"""Of a worker process: what it was told, where its model lies, and what it does with a task once that is loaded."""


def _start_process(job: Any, devices: Any, workers: int) -> None:
    global _job, _device
    _job, _device = job, torch.device(devices.get())
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // workers))


def _work_in_process(task: int) -> Any:
    global _work
    if _work is None:  # here and not at the start, where an error would only be a dead worker
        _work = _job.open(_device)
    return _work(task)
