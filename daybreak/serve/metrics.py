"""Figures for Prometheus. A registry of its own, so that two servers in one process do not share figures."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """Counters and histograms, by model."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._requests = Counter(
            "daybreak_requests", "Requests for pictures, by outcome", ["model", "outcome"], registry=registry
        )
        self._pictures = Counter("daybreak_pictures", "Pictures generated", ["model"], registry=registry)
        self._picture_seconds = Histogram(
            "daybreak_picture_seconds",
            "From a request's arrival to its picture",
            ["model"],
            registry=registry,
            buckets=SECONDS,
        )
        self._step_seconds = Histogram(
            "daybreak_step_seconds", "One step of a batch", ["model"], registry=registry, buckets=SECONDS
        )
        self._rows = Histogram("daybreak_batch_rows", "Pictures in a step", ["model"], registry=registry, buckets=ROWS)
        self._waits = Histogram(
            "daybreak_queue_seconds",
            "From a request's arrival to its drawing",
            ["model"],
            registry=registry,
            buckets=SECONDS,
        )
        self._refusals = Counter("daybreak_refusals", "Requests turned away", ["model", "reason"], registry=registry)
        self._memory = Gauge(
            "daybreak_drawing_memory_bytes", "Resident memory of the processes that draw", ["model", "process"],
            registry=registry,
        )  # fmt: skip
        self._gpu_memory = Gauge(
            "daybreak_drawing_gpu_memory_bytes", "GPU memory that they hold", ["model", "process"], registry=registry
        )
        self._queue = Gauge("daybreak_queue_length", "Pictures waiting", ["model"], registry=registry)

    def watch_queue(self, model: str, length: Callable[[], int]) -> None:
        """`length` is asked whenever the figures are."""
        self._queue.labels(model).set_function(length)

    def request(self, model: str, outcome: str) -> None:
        """A request ended: ok, refused, withheld, timeout, cancelled, error."""
        self._requests.labels(model, outcome).inc()

    def refused(self, model: str, reason: str) -> None:
        """A request was turned away: queue_full, rate, prompt, not_ready."""
        self.request(model, "refused")
        self._refusals.labels(model, reason).inc()

    def waited(self, model: str, seconds: float) -> None:
        """A picture left the line `seconds` after its request arrived."""
        self._waits.labels(model).observe(seconds)

    def memory(self, model: str, process: int, resident: int, gpu: int) -> None:
        """Bytes that drawing process 0, 1 .. of a model holds; gpu: 0 without one."""
        self._memory.labels(model, str(process)).set(resident)
        self._gpu_memory.labels(model, str(process)).set(gpu)

    def drawn(self, model: str, seconds: float) -> None:
        """A picture was finished `seconds` after its request arrived."""
        self._pictures.labels(model).inc()
        self._picture_seconds.labels(model).observe(seconds)

    def step(self, model: str, rows: int, seconds: float) -> None:
        """A batch of `rows` pictures took one step."""
        self._rows.labels(model).observe(rows)
        self._step_seconds.labels(model).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
