"""The thread that generates: one for each model. Pictures join and leave the batch between steps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from daybreak.sampling.expand import expanded
from daybreak.serve.jobs import Done, Failed, Job
from daybreak.serve.models import Row, ServedModel
from daybreak.serve.queue import JobQueue, drop
from daybreak.serve.settings import ServeSettings

log = logging.getLogger("daybreak.serve")


class Worker(threading.Thread):
    """Generates what is in `queue` until that is closed and drained. `ready` is set once the model is warm.

    begun: told of jobs that leave the line. stepped: told of each step, how many pictures and how many seconds.
    """

    def __init__(
        self, model: ServedModel, settings: ServeSettings,
        begun: Callable[[list[Job]], None] = lambda _jobs: None,
        stepped: Callable[[int, float], None] = lambda _rows, _seconds: None,
    ) -> None:  # fmt: skip
        super().__init__(name=f"draw {model.info.name}", daemon=True)
        self.model = model
        self.queue = JobQueue(settings.queue, model.shape)
        self.ready = threading.Event()
        self._limit = min(settings.batch, model.rows_limit or settings.batch)
        self._wait = settings.batch_wait
        self._warm = {1, self._limit} if settings.compile else {1}
        self._begun, self._stepped = begun, stepped

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
            else:
                jobs = self.queue.more(self._limit - len(rows), self.model.shape(rows[0].job.order))
            if jobs:
                self._begun(jobs)
            jobs = [job for job in jobs if self._writes_out(job)]
            if not rows and not jobs:
                continue
            try:
                if jobs:
                    rows += self.model.begin(jobs)
                began = time.monotonic()
                self.model.advance(rows)
                self._stepped(len(rows), time.monotonic() - began)
            except Exception:
                log.exception("generating with %s failed", self.model.info.name)
                for job in {*jobs, *(row.job for row in rows)}:
                    job.tell(Failed("the model failed to generate this picture"))
                rows = []
                continue
            rows = [row for row in rows if self._goes_on(row)]

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

    def _goes_on(self, row: Row) -> bool:
        """Delivers a finished row and drops one that no client waits for; True for all others."""
        job = row.job
        if row.pixels is not None:
            if not job.cancelled:
                job.tell(Done(row.pixels))
            return False
        if job.cancelled or job.overdue:
            drop(job)
            return False
        return True
