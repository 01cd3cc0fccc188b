"""The server's end of the processes that draw with one model: what is handed to them, and what becomes of it."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import AdapterFile
from daybreak.serve.jobs import Done, Failed, Job
from daybreak.serve.metrics import Metrics
from daybreak.serve.models import ModelInfo
from daybreak.serve.queue import QueueFullError
from daybreak.serve.settings import ServeSettings
from daybreak.serve.wire import Begun, Cancel, CannotOpen, Draw, Finish, Open, Opened, Ready, Stepped, Told

log = logging.getLogger("daybreak.serve")
TRIES = 2
"""How often a picture is begun: one whose process ended is drawn once more, lest it ends them all."""
RESTARTS = 5
"""A process that ends so often in a row before it has drawn anything is given up."""
PACKAGE = Path(__file__).parents[2]


class Drawer:
    """A process that draws, started anew when it ends. `receive` gets what it says; `ended` is told when it is gone.

    ConfigError where the model can't be opened.
    """

    def __init__(self, asked: Open, receive: Callable[[Drawer, Any], None], ended: Callable[[Drawer], None]) -> None:
        self._asked, self._receive, self._ended = asked, receive, ended
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ready = threading.Event()
        self.given_up = False
        self._failures = 0
        self._finishing = False
        self.opened = self._start()
        self._thread = threading.Thread(target=self._run, name=f"drawer {asked.spec}", daemon=True)
        self._thread.start()

    def send(self, message: Draw | Cancel) -> None:
        """Hands a message on without waiting."""
        self._outbox.put(message)

    def forget(self) -> None:
        """Drops what was sent and not taken."""
        self._outbox = queue.SimpleQueue()

    def finish(self) -> None:
        """Lets it draw what it has, and returns once it has ended."""
        self._finishing = True
        self._outbox.put(Finish())
        self._thread.join()

    def _start(self) -> Opened:
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daybreak.serve.drawing", str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": paths}, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._connection = Connection(ours.detach())
        self._connection.send(self._asked)
        try:
            opened = self._connection.recv()
        except (EOFError, OSError):
            raise ConfigError(f"{self._asked.spec}: the process that draws ended while it opened the model") from None
        if isinstance(opened, CannotOpen):
            raise ConfigError(opened.reason)
        assert isinstance(opened, Opened)
        return opened

    def _run(self) -> None:
        while True:
            outbox, connection = self._outbox, self._connection
            if self._finishing:
                outbox.put(Finish())
            sender = threading.Thread(target=_send_all, args=(outbox, connection), daemon=True)
            sender.start()
            self._listen()
            status = self._process.wait()
            self.ready.clear()
            outbox.put(None)  # ends the sender
            sender.join()
            connection.close()
            if self._finishing and status == 0:
                return
            log.error(
                "the process that draws with %s ended (%s); it is started again", self._asked.spec, _words(status)
            )
            self._ended(self)
            if not self._restart():
                return

    def _restart(self) -> bool:
        while self._failures < RESTARTS:
            self._failures += 1
            try:
                self._start()
            except ConfigError as e:
                log.error("it can't be started again: %s", e)
                time.sleep(1.0)
            else:
                return True
        self.given_up = True
        self._ended(self)
        return False

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Ready):
                self.ready.set()
            else:
                if isinstance(message, Told) and isinstance(message.event, Done):
                    self._failures = 0
                self._receive(self, message)


@dataclass(eq=False)
class _Handed:
    job: Job
    drawer: Drawer
    tries: int = 1
    begun: bool = False


class Line:
    """The bounded line in front of a model, and the processes that draw from it.

    loras: adapters that requests may ask for, by name; `unfit` says which of them the model can't draw with, and why.
    ConfigError where the model can't be opened.
    """

    def __init__(
        self, spec: str, settings: ServeSettings, metrics: Metrics, loras: Mapping[str, AdapterFile] | None = None
    ) -> None:
        self.capacity = settings.queue
        self._metrics = metrics
        self._handed: dict[int, _Handed] = {}
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._closed = False
        self._seconds_a_picture = 1.0  # a running mean of the time between finished pictures, while busy
        self._last_finish, self._drew = 0.0, False

        def drawer(device: int) -> Drawer:
            return Drawer(Open(spec, settings, device, dict(loras or {})), self._receive, self._ended)

        first = drawer(0)
        self.info: ModelInfo = first.opened.info
        self.about = first.opened.about
        self.unfit = first.opened.unfit
        self.device = first.opened.device
        count = settings.processes or max(1, first.opened.devices)
        self.drawers = [first, *map(drawer, range(1, count))]
        metrics.watch_queue(self.info.name, self.__len__)

    def __len__(self) -> int:
        """Pictures that wait."""
        with self._lock:
            return sum(not handed.begun for handed in self._handed.values())

    @property
    def ready(self) -> bool:
        """Whether a process is warm."""
        return any(drawer.ready.is_set() for drawer in self.drawers)

    @property
    def alive(self) -> bool:
        """Whether pictures can still come of it: not all of its processes were given up."""
        return not all(drawer.given_up for drawer in self.drawers)

    def put(self, jobs: list[Job]) -> None:
        """Hands out all of `jobs`, or none: QueueFullError where there is no room or the server is closing."""
        with self._lock:
            if self._closed or not self.alive or len(self) + len(jobs) > self.capacity:
                raise QueueFullError
            if not self._handed:
                self._last_finish = time.monotonic()
            for job in jobs:
                self._hand(next(self._numbers), _Handed(job, self._idlest()))

    def cancel(self, jobs: list[Job]) -> None:
        """Gives up those of `jobs` that are not finished."""
        with self._lock:
            unfinished = [(n, handed) for n, handed in self._handed.items() if handed.job in jobs]
            for number, handed in unfinished:
                handed.job.cancelled = True
                handed.drawer.send(Cancel(number))
                del self._handed[number]

    def place(self, job: Job) -> tuple[int, float | None] | None:
        """How many pictures are drawn or wait before a job, and the seconds until it should be there.

        None where it is being drawn itself, or done. The seconds are None before any picture was drawn.
        """
        with self._lock:
            waiting = [handed.job for handed in self._handed.values() if not handed.begun]
            if job not in waiting:
                return None
            before = waiting.index(job) + len(self._handed) - len(waiting)
        return before, (before + 1) * self._seconds_a_picture if self._drew else None

    def retry_after(self) -> int:
        """Whole seconds until there should be room in the line: what it takes to generate a quarter of it."""
        return max(1, min(600, round(self._seconds_a_picture * max(1, len(self)) / 4)))

    def close(self) -> None:
        """Takes nothing more, and returns once all that was taken is drawn."""
        self._closed = True
        for drawer in self.drawers:
            drawer.finish()

    def _idlest(self) -> Drawer:
        alive = [drawer for drawer in self.drawers if not drawer.given_up]
        busy = [handed.drawer for handed in self._handed.values()]
        return min(alive, key=lambda drawer: (not drawer.ready.is_set(), busy.count(drawer)))

    def _hand(self, number: int, handed: _Handed) -> None:
        self._handed[number] = handed
        job = handed.job
        handed.drawer.send(Draw(number, job.order, job.deadline, job.preview_steps))

    def _receive(self, drawer: Drawer, message: Begun | Told | Stepped) -> None:
        if isinstance(message, Stepped):
            for rows, seconds in message.steps:
                self._metrics.step(self.info.name, rows, seconds)
            number = self.drawers.index(drawer)
            self._metrics.memory(self.info.name, number, message.memory, message.gpu_memory)
            return
        with self._lock:
            if isinstance(message, Begun):
                for handed in [self._handed[n] for n in message.numbers if n in self._handed]:
                    handed.begun = True
                    self._metrics.waited(self.info.name, time.monotonic() - handed.job.arrived)
                return
            handed = self._handed.get(message.number)
            if handed is None:
                return
            job = handed.job
            job.revised_prompt, job.text_tokens = message.revised_prompt, message.text_tokens
            if isinstance(message.event, Done | Failed):
                del self._handed[message.number]
            if isinstance(message.event, Done):
                now = time.monotonic()
                took = now - self._last_finish
                self._seconds_a_picture += (0.1 if self._drew else 1.0) * (took - self._seconds_a_picture)
                self._last_finish, self._drew = now, True
                self._metrics.drawn(self.info.name, now - job.arrived)
        job.tell(message.event)

    def _ended(self, drawer: Drawer) -> None:
        """Of what a process had, what it had not tried too often is drawn again; the rest is told that it failed."""
        with self._lock:
            drawer.forget()
            had = [(number, handed) for number, handed in self._handed.items() if handed.drawer is drawer]
            lost = [pair for pair in had if not self.alive or (pair[1].begun and pair[1].tries >= TRIES)]
            for number, handed in had:
                if (number, handed) in lost:
                    del self._handed[number]
                    continue
                handed.drawer = self._idlest()
                handed.tries += handed.begun
                handed.begun = False
                self._hand(number, handed)
        for _number, handed in lost:
            handed.job.tell(Failed("the process that drew this picture ended"))


def _send_all(outbox: queue.SimpleQueue[Any], connection: Connection) -> None:
    while (message := outbox.get()) is not None:
        try:
            connection.send(message)
        except OSError:
            return  # it has ended, as the listener sees


def _words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit {status}"
