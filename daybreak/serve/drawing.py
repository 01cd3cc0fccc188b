"""A process that draws: a model, its line and its worker, on one end of a connection to the server.

The server answers clients on Python's one lock; here that lock is the drawing's own, so that no storm of requests slows
it, and a fault that ends this process ends no other. `python -m daybreak.serve.drawing FILE_DESCRIPTOR` starts one.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from daybreak.config import ConfigError
from daybreak.sampling.expand import RULES, open_expander
from daybreak.serve.jobs import Done, Event, Failed, Job
from daybreak.serve.models import ServedModel
from daybreak.serve.open import open_served
from daybreak.serve.settings import MAX_QUEUE, ServeSettings
from daybreak.serve.wire import Begun, Cancel, CannotOpen, Draw, Finish, Open, Opened, Ready, Stepped, Told
from daybreak.serve.worker import Worker

STEPS_EVERY = 0.25
"""Seconds between two messages about steps."""


class Drawing:
    """Draws what the server sends, and sends what becomes of it, until there is no server or it says so."""

    def __init__(self, connection: Connection, model: ServedModel, settings: ServeSettings) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._numbers: dict[Job, int] = {}
        self._steps: list[tuple[int, float]] = []
        self._steps_sent = 0.0
        settings = replace(settings, queue=MAX_QUEUE)  # the server bounds the line
        self._worker = Worker(model, settings, begun=self._begun, stepped=self._stepped)

    def run(self) -> None:
        """See the class. Returns once the line is closed and empty; without a server at once."""
        self._worker.start()
        threading.Thread(target=self._say_when_ready, daemon=True).start()
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Finish):
                break
            self._take(message)
        self._worker.queue.close()
        self._worker.join()

    def _take(self, message: Draw | Cancel) -> None:
        if isinstance(message, Cancel):
            if (job := self._jobs.get(message.number)) is not None:
                job.cancelled = True
            return
        job = Job(message.order, partial(self._tell, message.number), message.deadline, message.preview_steps)
        self._jobs[message.number], self._numbers[job] = job, message.number
        self._worker.queue.put([job])

    def _tell(self, number: int, event: Event) -> None:
        job = self._jobs.get(number)
        if job is None:  # cancelled and forgotten, though this step of it was still under way
            return
        self._send(Told(number, event, job.revised_prompt, job.text_tokens))
        if isinstance(event, Done | Failed):
            self._forget(job)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(self._numbers.pop(job, -1), None)

    def _begun(self, jobs: list[Job]) -> None:
        self._send(Begun(tuple(self._numbers[job] for job in jobs if job in self._numbers)))
        for job in [job for job in list(self._numbers) if job.cancelled]:  # of which nothing more is told
            self._forget(job)

    def _stepped(self, rows: int, seconds: float) -> None:
        self._steps.append((rows, seconds))
        if time.monotonic() - self._steps_sent > STEPS_EVERY:
            self._send(Stepped(tuple(self._steps), *_memory()))
            self._steps, self._steps_sent = [], time.monotonic()

    def _say_when_ready(self) -> None:
        self._worker.ready.wait()
        self._send(Ready())

    def _send(self, message: Any) -> None:
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                return  # the server is gone, as `run` will see


def _memory() -> tuple[int, int]:
    """Bytes that this process holds in main memory and on its GPU."""
    import torch

    gpu = torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return 0, gpu
    return pages * resource.getpagesize(), gpu


def _open(asked: Open) -> tuple[ServedModel, Opened]:
    """The model, warm enough to say what it is. ConfigError where there is none."""
    import torch

    from daybreak.parallel import pick_device

    device, devices = pick_device(), torch.cuda.device_count()
    if device.type == "cuda":
        device = torch.device("cuda", asked.device % devices)
    model = open_served(asked.spec, asked.settings, device, asked.loras)
    if model.info.expand is not None and model.info.expand != RULES:
        open_expander(model.info.expand)  # which the first client would wait for, or be told of its absence
    return model, Opened(model.info, model.about, dict(model.unfit), devices, device.type)


def _end_of_a_thread(what: threading.ExceptHookArgs) -> None:
    """Without one of its threads the process would draw nothing for ever; the server starts it again."""
    threading.__excepthook__(what)
    os._exit(1)


def main() -> None:
    """See the module."""
    threading.excepthook = _end_of_a_thread
    for number in (signal.SIGINT, signal.SIGTERM):  # the server says when it is over
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    asked = connection.recv()
    try:
        model, opened = _open(asked)
    except ConfigError as e:
        connection.send(CannotOpen(str(e)))
        return
    connection.send(opened)
    Drawing(connection, model, asked.settings).run()


if __name__ == "__main__":
    main()
