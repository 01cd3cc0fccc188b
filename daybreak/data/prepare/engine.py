"""Runs tasks on all cores, or on a Ray cluster. A task is a picklable function's arguments."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any, Literal, TypeVar

from daybreak.config import ConfigError

Engine = Literal["processes", "ray"]
T = TypeVar("T")


def run_tasks(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], workers: int, engine: Engine = "processes"
) -> Iterator[T]:
    """function(*task) for each task, as they finish. `workers` 0 runs them here, one after another.

    An error in a task is raised here. Raises ConfigError where a worker dies or the engine is not installed.
    """
    if engine == "ray":
        yield from _on_ray(function, tasks)
    elif workers == 0:
        for task in tasks:
            yield function(*task)
    else:
        yield from _in_processes(function, tasks, workers)


def _in_processes(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], workers: int) -> Iterator[T]:
    # Spawned: a fork would copy the locks of whatever threads run here.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    pending: set[Future[T]] = set()
    try:
        for task in tasks:
            pending.add(pool.submit(function, *task))
            if len(pending) >= 4 * workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (f.result() for f in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (f.result() for f in done)
    except BrokenProcessPool:
        raise ConfigError(
            "a worker process died, most likely for lack of memory; the same command with fewer --workers goes on "
            "where this one stopped"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leaves with the parent, also when that is killed, and keeps the decoders' warnings to itself."""
    warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _on_ray(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """On the cluster that `ray` is connected to, or on a new local one. All nodes need to see the same files."""
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'daybreak[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    remote = ray.remote(function)
    limit = 4 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: list[Any] = []
    for task in tasks:
        pending.append(remote.remote(*task))
        if len(pending) >= limit:
            done, pending = ray.wait(pending)
            yield from ray.get(done)
    while pending:
        done, pending = ray.wait(pending)
        yield from ray.get(done)
