"""The line in front of a model: bounded, first come first served, but for companions of one shape."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

from daybreak.serve.jobs import Failed, Job, Order

PATIENCE = 2.0
"""Once the first in line has waited this many seconds, no order of another shape passes it any more."""


class QueueFullError(Exception):
    """There is no room for the pictures asked for."""


class JobQueue:
    """A line of at most `capacity` pictures. `shape` says of an order which others it can be generated with."""

    def __init__(self, capacity: int, shape: Callable[[Order], Hashable]) -> None:
        self.capacity = capacity
        self._shape = shape
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, jobs: list[Job]) -> None:
        """Appends all of `jobs`, or none: QueueFullError where there is no room or the server is closing."""
        with self._changed:
            self._jobs = deque(j for j in self._jobs if not j.cancelled)
            if self._closed or len(self._jobs) + len(jobs) > self.capacity:
                raise QueueFullError
            self._jobs.extend(jobs)
            self._changed.notify_all()

    def close(self) -> None:
        """No more jobs; those in line are still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def first(self, limit: int, wait: float) -> list[Job]:
        """Waits for a job, then up to `wait` seconds for `limit` of its shape. Empty once closed and drained."""
        with self._changed:
            while True:
                while (head := self._head()) is None:
                    if self._closed:
                        return []
                    self._changed.wait()
                shape = self._shape(head.order)
                until = time.monotonic() + wait
                while self._count(shape) < limit and not self._closed and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                if taken := self._take(limit, shape):  # else all of them were given up meanwhile
                    return taken

    def more(self, limit: int, shape: Hashable) -> list[Job]:
        """Up to `limit` jobs of `shape`, without waiting; they join a batch that is under way."""
        with self._changed:
            head = self._head()
            if head is None or limit <= 0:
                return []
            if self._shape(head.order) != shape and time.monotonic() - head.arrived > PATIENCE:
                return []
            return self._take(limit, shape)

    def _head(self) -> Job | None:
        """The first job that is still wanted; those in front of it are dropped."""
        while self._jobs and (self._jobs[0].cancelled or self._jobs[0].overdue):
            drop(self._jobs.popleft())
        return self._jobs[0] if self._jobs else None

    def _count(self, shape: Hashable) -> int:
        return sum(self._shape(j.order) == shape for j in self._jobs)

    def _take(self, limit: int, shape: Hashable) -> list[Job]:
        taken: list[Job] = []
        left: deque[Job] = deque()
        for job in self._jobs:
            if job.cancelled or job.overdue:
                drop(job)
            elif len(taken) < limit and self._shape(job.order) == shape:
                taken.append(job)
            else:
                left.append(job)
        self._jobs = left
        return taken


def drop(job: Job) -> None:
    """Tells the client that its time is over; one that has left is told nothing."""
    if not job.cancelled:
        job.tell(Failed("the picture was not ready in time", timed_out=True))
