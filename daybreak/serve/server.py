"""What lives as long as the server does: models with their workers, keys, limits, figures, pictures."""

from __future__ import annotations

from daybreak.sampling.expand import RULES, open_expander
from daybreak.serve.errors import ApiError
from daybreak.serve.find import check_names
from daybreak.serve.images import Store
from daybreak.serve.keys import RateLimiter, read_keys
from daybreak.serve.metrics import Metrics
from daybreak.serve.models import ServedModel
from daybreak.serve.schemas import ModelCard
from daybreak.serve.settings import ServeSettings
from daybreak.serve.worker import Worker


class ImageServer:
    """Models ready to be started.

    ConfigError where two have one name, the key file is wrong, or who is to write prompts out can't be had.
    """

    def __init__(self, models: list[ServedModel], settings: ServeSettings) -> None:
        check_names(m.info.name for m in models)
        for by in {m.info.expand for m in models} - {None, RULES}:
            open_expander(str(by))  # which the first client would wait for, or be told of its absence
        self.settings = settings
        self.keys = read_keys(settings.keys) if settings.keys else None
        self.limiter = RateLimiter(settings.rate)
        self.metrics = Metrics()
        self.store = Store()
        self.workers = {m.info.name: Worker(m, settings, self.metrics) for m in models}
        self._stopping = False
        for name, worker in self.workers.items():
            self.metrics.watch_queue(name, worker.queue.__len__)

    def start(self) -> None:
        """Starts a thread for each model; `check_ready` says when they are warm."""
        for worker in self.workers.values():
            worker.start()

    def stop(self) -> None:
        """Takes nothing more, generates what is in line, and returns when that is done."""
        self._stopping = True
        for worker in self.workers.values():
            worker.queue.close()
        for worker in self.workers.values():
            worker.join()

    def check_ready(self) -> None:
        """ApiError 503 unless every model is warm and alive."""
        for name, worker in self.workers.items():
            if self._stopping or not worker.is_alive():
                raise ApiError(503, f"model {name} is not running", retry_after=5)
            if not worker.ready.is_set():
                raise ApiError(503, f"model {name} is warming up", retry_after=5)

    def worker(self, name: str | None) -> Worker:
        """The worker of a model, of the first one where no name is given; ApiError 404 for an unknown name."""
        if name is None:
            return next(iter(self.workers.values()))
        if name not in self.workers:
            raise ApiError(
                404, f"no model is named {name!r}; there are {', '.join(self.workers)}", "model", "model_not_found"
            )
        return self.workers[name]

    def card(self, name: str) -> ModelCard:
        """A model as /v1/models lists it."""
        info = self.workers[name].model.info
        return ModelCard(
            id=name,
            created=info.created,
            size=info.size,
            size_multiple=info.multiple,
            max_size=info.max_size,
            steps=info.steps,
            max_steps=self.settings.max_steps,
            guidance=info.guidance,
            previews=info.previews,
            expands=info.expand is not None,
        )
