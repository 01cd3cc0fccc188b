"""What long work tells of how far it is, to whoever shows it: drawing, judging, saving, loading.

Work deep below a command says `for batch in counted(batches, len(prompts))`, and `advance()` after each part; nobody
between has to hand that through. In threads of their own, as a server's, nobody listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Phase:
    """Something that takes its time. total: how many parts it has; None: that is not known (yet)."""

    name: str
    total: int | None = None
    done: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.began

    def seconds_left(self) -> float | None:
        """Expected by the pace so far; None before there is anything to go by."""
        return self.seconds * (self.total - self.done) / self.done if self.total and self.done else None


Listener = Callable[[Phase | None], None]
"""Is called when a phase begins, after each part of it, and with None when it is over."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_phase: ContextVar[Phase | None] = ContextVar("phase", default=None)


@contextmanager
def shown_by(listener: Listener) -> Generator[None]:
    """Whoever is to be told of the phases within."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def phase(name: str, total: int | None = None) -> Generator[None]:
    """A phase; one within another takes its place until it is over."""
    outer = _phase.get()
    token = _phase.set(Phase(name, total))
    _tell(_phase.get())
    try:
        yield
    finally:
        _phase.reset(token)
        _tell(outer)


def counted(rounds: Iterable[T], total: int) -> Iterator[T]:
    """`rounds`, in which the phase that goes on has `total` parts, unless it has a total; `advance` counts them."""
    current = _phase.get()
    own = current is not None and current.total is None
    if current is not None and own:
        current.total, current.done = total, 0.0
    yield from rounds
    if current is not None and own:
        current.total = None


def advance(parts: float = 1) -> None:
    """So many more parts of the phase that goes on are done; a fraction is part of one."""
    current = _phase.get()
    if current is not None:
        current.done += parts
        _tell(current)


def _tell(current: Phase | None) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(current)
