"""Work on a Ray cluster: the one that Ray finds (RAY_ADDRESS, or one that runs here), else a new one on this machine.

All nodes need this package and have to see the same files under the same paths.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from daybreak.config import ConfigError
from daybreak.extras import require

RETRIES = 3
"""How often a task is done again whose worker died: a lost machine ends no run, a task that kills its workers does."""
T = TypeVar("T")


def run_tasks(function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], workers: int | None) -> Iterator[T]:
    """function(*task) for each task, as they finish: at most `workers` at a time, by default as many as there are CPUs.

    A task whose worker dies is done again. Raises ConfigError where that does not help, and without Ray.
    """
    ray = _connect(workers)
    remote, folder = ray.remote(_in_folder).options(max_retries=RETRIES), str(Path.cwd())
    # Four a CPU, so that none waits for the next; the cluster starts as many as it has CPUs.
    limit = workers or 4 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: list[Any] = []
    with _plain_errors(ray):
        for task in tasks:
            pending.append(remote.remote(folder, function, *task))
            if len(pending) >= limit:
                done, pending = ray.wait(pending)
                yield from ray.get(done)
        while pending:
            done, pending = ray.wait(pending)
            yield from ray.get(done)


def run_on_actors(open_: Callable[[], Callable[[int], T]], tasks: list[int], workers: int | None) -> Iterator[T]:
    """open_()(task) for each task, as they finish, in actors that call `open_` once: what it loads stays there.

    One actor a GPU where the cluster has any; else `workers` of them, by default one a machine, which share its CPUs.
    An actor that dies is started anew and does its task again; actors that wait for a busy cluster hold nothing up.
    """
    ray = _connect(workers)
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus = int(sum(m.get("GPU", 0) for m in machines))
    n = min(len(tasks), number_of_workers(workers, gpus) or len(machines))
    options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 1}
    if not gpus:
        each = min(int(m["CPU"]) for m in machines) // math.ceil(n / len(machines))
        options = {"num_cpus": max(1, each)}
    kind = ray.remote(_Holder).options(**options, max_restarts=-1, max_task_retries=RETRIES)
    actors = [kind.remote(str(Path.cwd()), open_) for _ in range(n)]
    waiting, left = deque(tasks), len(tasks)
    busy = {actor.ready.remote(): actor for actor in actors}
    with _plain_errors(ray):
        while left:
            (done,), _ = ray.wait(list(busy))
            actor, result = busy.pop(done), ray.get(done)
            if waiting:
                busy[actor.work.remote(waiting.popleft())] = actor
            if result is not None:
                left -= 1
                yield result
    for actor in actors:
        ray.kill(actor)


def number_of_workers(workers: int | None, gpus: int) -> int | None:
    """How many workers hold a model: as asked, else one a GPU; none where neither says. ConfigError for too many."""
    if gpus and workers is not None and workers > gpus:
        raise ConfigError(f"--workers is {workers}, but each takes a GPU and there are {gpus}; leave it out for all")
    return workers if workers is not None else gpus or None


def _connect(workers: int | None) -> Any:
    """Ray, connected. ConfigError where it is not installed or can't be reached."""
    if workers == 0:
        raise ConfigError("--workers 0 is this process alone; with --engine ray it must be at least 1")
    ray = require("ray", "ray", "--engine ray")
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as e:
            where = f" at RAY_ADDRESS {os.environ['RAY_ADDRESS']}" if "RAY_ADDRESS" in os.environ else ""
            raise ConfigError(
                f"--engine ray: no Ray cluster{where} ({' '.join(str(e).split())[:200]}); "
                "does it run, and is its token in RAY_AUTH_TOKEN here?"
            ) from None
    return ray


@contextmanager
def _plain_errors(ray: Any) -> Generator[None]:
    """A user's mistake found on another machine reads as if it had been found here."""
    try:
        yield
    except ray.exceptions.RayTaskError as e:
        if isinstance(e.cause, ConfigError):
            raise e.cause from None
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
        raise ConfigError(
            f"a Ray worker died {RETRIES + 1} times at the same task, most likely for lack of memory; the same command "
            "goes on where this one stopped"
        ) from None


def _in_folder(folder: str, function: Callable[..., T], *task: Any) -> T:
    """function(*task) as if called in `folder`: relative paths mean the same on all machines."""
    _enter(folder)
    return function(*task)


def _enter(folder: str) -> None:
    warnings.simplefilter("ignore")  # decoders' warnings would fill the cluster's logs
    try:
        os.chdir(folder)
    except OSError as e:
        raise ConfigError(
            f"--engine ray: the machine {os.uname().nodename} does not see the folder {folder} ({e.strerror}); all "
            "machines of the cluster need the same files"
        ) from None


class _Holder:
    """An actor: opens its model with the first task, also when it was started anew."""

    def __init__(self, folder: str, open_: Callable[[], Callable[[int], Any]]) -> None:
        self._folder, self._open = folder, open_
        self._work: Callable[[int], Any] | None = None

    def ready(self) -> None:
        """Answers once the cluster has a place for this actor."""

    def work(self, task: int) -> Any:
        """The result of one task."""
        if self._work is None:
            _enter(self._folder)
            self._work = self._open()
        return self._work(task)
