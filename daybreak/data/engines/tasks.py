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
from typing import Any, TypeVar

from daybreak.config import ConfigError
from daybreak.data.engines import cluster
from daybreak.data.settings import Engine

T = TypeVar("T")


def run_tasks(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], workers: int | None, engine: Engine = "processes"
) -> Iterator[T]:
    """function(*task) for each task, as they finish.

    `workers`: how many run at a time; 0: here, one after another; none: as many as there are cores, on a cluster all of
    its own. An error in a task is raised here. Raises ConfigError where a worker dies or the engine is not installed.
    """
    if engine == "ray":
        yield from cluster.run_tasks(function, tasks, workers)
    elif workers == 0:
        for task in tasks:
            yield function(*task)
    else:
        yield from in_processes(function, tasks, workers or len(os.sched_getaffinity(0)))


def in_processes(
    function: Callable[..., T],
    tasks: Iterable[tuple[Any, ...]],
    workers: int,
    start: Callable[..., None] | None = None,
    *of_start: Any,
) -> Iterator[T]:
    """As `run_tasks`, in new processes, each of which calls start(*of_start) first."""
    # Spawned: a fork would copy the locks of whatever threads run here.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(start, *of_start))
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


def _start_worker(start: Callable[..., None] | None, *of_start: Any) -> None:
    """Exits with the parent, also when that is killed, and keeps the decoders' warnings to itself."""
    warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
    if start is not None:
        start(*of_start)
