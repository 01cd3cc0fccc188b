"""API keys: random words of 256 bits, kept only as SHA-256, and how much each may generate.

A line of the file is `NAME SHA256 [PICTURES_PER_MINUTE]`; `daybreak key NAME --file FILE` adds one. A fast hash is
enough: the keys are random, so there is no dictionary to try.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from daybreak.config import ConfigError

PREFIX = "db-"
REMEMBERED = 10_000
"""Clients whose recent use is remembered."""


@dataclass(frozen=True)
class Client:
    """Who asks. `rate`: pictures a minute; none: the server's."""

    name: str
    rate: float | None = None


def digest(key: str) -> str:
    """The form in which a key is kept."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, Client]:
    """{digest: client} of a key file; ConfigError that names the line where it is wrong."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"--keys {path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    clients: dict[str, Client] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) not in (2, 3) or not re.fullmatch(r"[0-9a-f]{64}", words[1]):
            raise ConfigError(f"{path}, line {number}: should be NAME SHA256 [PICTURES_PER_MINUTE]")
        try:
            rate = float(words[2]) if len(words) == 3 else None
        except ValueError:
            rate = math.nan
        if rate is not None and not 0 < rate < math.inf:
            raise ConfigError(f"{path}, line {number}: {words[2]} pictures a minute is no rate above 0")
        clients[words[1]] = Client(words[0], rate)
    if not clients:
        raise ConfigError(f"--keys {path} holds no key; add one with: daybreak key NAME --file {path}")
    return clients


def add_key(path: Path, name: str, rate: float | None) -> str:
    """Makes a key, appends its hash to the file (readable by its owner only) and returns the key itself."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise ConfigError(f"{name!r}: a key's name has 1 to 64 letters, digits, dots, dashes and underscores")
    if path.is_file() and path.read_text().strip() and name in {c.name for c in read_keys(path).values()}:
        raise ConfigError(f"{path} has a key named {name}; remove its line first")
    key = PREFIX + secrets.token_urlsafe(32)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
            file.write(f"{name} {digest(key)}{'' if rate is None else f' {rate:g}'}\n")
    except OSError as e:
        raise ConfigError(f"--file {path} cannot be written: {e.strerror}") from None
    return key


class RateLimiter:
    """A bucket for each client that holds a minute's pictures and refills steadily."""

    def __init__(self, default_rate: float | None) -> None:
        self._default = default_rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name: (pictures left, when)

    def wait(self, client: Client, pictures: int) -> float:
        """Takes `pictures` from the client's bucket and returns 0, or takes none and returns the seconds to wait.

        A request for more than a minute's pictures is let through when the bucket is full, and paid off afterwards.
        """
        rate = client.rate or self._default
        if rate is None:
            return 0.0
        now = time.monotonic()
        capacity = max(1.0, rate)
        left, when = self._buckets.get(client.name, (capacity, now))
        left = min(capacity, left + (now - when) * rate / 60)
        needed = min(pictures, capacity)
        enough = left >= needed
        self._buckets[client.name] = (left - pictures if enough else left, now)
        self._buckets.move_to_end(client.name)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if enough else (needed - left) * 60 / rate
