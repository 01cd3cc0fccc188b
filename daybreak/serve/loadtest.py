"""Load on a server as clients make it: what it draws a second, and how long they wait."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from daybreak.config import ConfigError
from daybreak.serve.settings import LoadSettings


@dataclass(frozen=True)
class LoadResult:
    """What clients saw. outcomes: answers by status, `broken` for a lost connection. seconds: of each picture."""

    outcomes: dict[str, int]
    seconds: list[float]
    wall: float

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.seconds) / self.wall

    def percentiles(self, percents: Sequence[int]) -> dict[str, float]:
        """{"p95_seconds": seconds} within which so many in a hundred pictures came; empty without a picture."""
        ordered = sorted(self.seconds)
        last = len(ordered) - 1
        return {f"p{p}_seconds": ordered[min(last, p * len(ordered) // 100)] for p in percents if ordered}


def load(url: str, settings: LoadSettings) -> LoadResult:
    """Makes the requests. ConfigError where `url` is no address or nothing answers there."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url} is no address; it must be such as http://127.0.0.1:8000")
    try:
        with_answer = _connect(parts, settings)
        with_answer.request("GET", "/health")
        with_answer.getresponse().read()
    except (OSError, http.client.HTTPException) as e:
        raise ConfigError(f"no server answers at {url}: {e}") from None
    outcomes: Counter[str] = Counter()
    seconds: list[float] = []
    numbers = itertools.count()
    lock = threading.Lock()

    def client() -> None:
        connection = _connect(parts, settings)
        while (number := next(numbers)) < settings.requests:
            began = time.perf_counter()
            outcome = _ask(connection, settings, number)
            with lock:
                outcomes[outcome] += 1
                if outcome == "200":
                    seconds.append(time.perf_counter() - began)
            if outcome == "broken":
                connection.close()
                connection = _connect(parts, settings)

    threads = [threading.Thread(target=client) for _ in range(min(settings.clients, settings.requests))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return LoadResult(dict(outcomes), seconds, time.perf_counter() - began)


def _connect(parts: Any, settings: LoadSettings) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=settings.timeout)


def _ask(connection: http.client.HTTPConnection, settings: LoadSettings, number: int) -> str:
    """The status of one request for a picture, or `broken`."""
    asked = {"prompt": settings.prompt, "seed": number, "n": 1, "response_format": "b64_json"}
    asked |= {"model": settings.model, "size": settings.size, "steps": settings.steps}
    headers = {"Content-Type": "application/json"}
    if settings.key is not None:
        headers["Authorization"] = f"Bearer {settings.key}"
    try:
        connection.request("POST", "/v1/images/generations", json.dumps(asked), headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return "broken"
    return str(answer.status)
