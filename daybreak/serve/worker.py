"""The thread that generates: one for each model. Pictures join and leave the batch between steps."""

from __future__ import annotations

import logging
import threading
import time

from daybreak.sampling.expand import expanded
from daybreak.serve.jobs import Done, Failed, Job
from daybreak.serve.metrics import Metrics
from daybreak.serve.models import Row, ServedModel
from daybreak.serve.queue import JobQueue, drop
from daybreak.serve.settings import ServeSettings

log = logging.getLogger("daybreak.serve")


class Worker(threading.Thread):
    """Generates what is in `queue` until that is closed and drained. `ready` is set once the model is warm."""

    def __init__(self, model: ServedModel, settings: ServeSettings, metrics: Metrics) -> None:
        super().__init__(name=f"draw {model.info.name}", daemon=True)
        self.model = model
        self.queue = JobQueue(settings.queue, model.shape)
        self.ready = threading.Event()
        self._limit = min(settings.batch, model.rows_limit or settings.batch)
        self._wait = settings.batch_wait
        self._warm = {1, self._limit} if settings.compile else {1}
        self._metrics = metrics
        self._seconds_a_picture = 1.0  # a running mean of the time between finished pictures, while busy
        self._last_finish = 0.0
        self._drawing, self._drew = 0, False

    def run(self) -> None:
        """See the class."""
        for count in sorted(self._warm):
            self.model.warm_up(count)
        self.ready.set()
        rows: list[Row] = []
        while True:
            if not rows:
                jobs = self.queue.first(self._limit, self._wait)
                if not jobs:
                    return
                self._last_finish = time.monotonic()
            else:
                jobs = self.queue.more(self._limit - len(rows), self.model.shape(rows[0].job.order))
            jobs = [job for job in jobs if self._writes_out(job)]
            if not rows and not jobs:
                continue
            try:
                if jobs:
                    rows += self.model.begin(jobs)
                self._drawing = len(rows)
                began = time.monotonic()
                self.model.advance(rows)
                self._metrics.step(self.model.info.name, len(rows), time.monotonic() - began)
            except Exception:
                log.exception("generating with %s failed", self.model.info.name)
                for job in {*jobs, *(row.job for row in rows)}:
                    job.tell(Failed("the model failed to generate this picture"))
                rows = []
                continue
            rows = [row for row in rows if self._goes_on(row)]
            self._drawing = len(rows)

    def _writes_out(self, job: Job) -> bool:
        """Gives a job that wants it a longer prompt; False, and its client is told, where none could be written."""
        order = job.order
        if not order.expand:
            return True
        try:
            (written,) = expanded([order.prompt], self.model.info.expand, order.seed, [0])
        except Exception as e:
            log.error("a prompt could not be written out: %s", e)
            job.tell(Failed("the prompt could not be written out; expand=false takes it as it stands"))
            return False
        job.revised_prompt = written if written != order.prompt else None
        return True

    def place(self, job: Job) -> tuple[int, float | None] | None:
        """How many pictures are drawn or wait before a job, and the seconds until it should be there.

        None where it is being drawn itself. The seconds are None before any picture was drawn.
        """
        waiting = self.queue.before(job)
        if waiting is None:
            return None
        before = waiting + self._drawing
        return before, (before + 1) * self._seconds_a_picture if self._drew else None

    def retry_after(self) -> int:
        """Whole seconds until there should be room in the line: what it takes to generate a quarter of it."""
        return max(1, min(600, round(self._seconds_a_picture * max(1, len(self.queue)) / 4)))

    def _goes_on(self, row: Row) -> bool:
        """Delivers a finished row and drops one that no client waits for; True for all others."""
        job = row.job
        if row.pixels is not None:
            now = time.monotonic()
            took = now - self._last_finish
            self._seconds_a_picture += (0.1 if self._drew else 1.0) * (took - self._seconds_a_picture)
            self._last_finish, self._drew = now, True
            if not job.cancelled:
                self._metrics.drawn(self.model.info.name, now - job.arrived)
                job.tell(Done(row.pixels))
            return False
        if job.cancelled or job.overdue:
            drop(job)
            return False
        return True
