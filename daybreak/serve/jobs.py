"""A picture on its way from a request to the model and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Pixels = np.ndarray
"""[H, W, 3] uint8 sRGB."""


@dataclass(frozen=True)
class Order:
    """One picture as a client wants it. Sizes in px; guidance 1 is none; every field within the server's limits."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    expand: bool = True
    """Whether the model may write the prompt out first, where it does so at all."""


@dataclass(frozen=True)
class Preview:
    """The picture as the model sees it through the noise after `step` of `steps`."""

    step: int
    steps: int
    pixels: Pixels


@dataclass(frozen=True)
class Done:
    """The finished picture."""

    pixels: Pixels


@dataclass(frozen=True)
class Failed:
    """No picture will come. timed_out: for lack of time, else for a fault of the server's."""

    reason: str
    timed_out: bool = False


Event = Preview | Done | Failed


@dataclass(eq=False)
class Job:
    """An order in flight. `tell` is called from the worker's thread; it must neither block nor raise."""

    order: Order
    tell: Callable[[Event], None]
    deadline: float
    """time.monotonic() after which the picture is of no use."""
    preview_steps: frozenset[int] = frozenset()
    """Steps after which the client wants to see the picture."""
    revised_prompt: str | None = None
    """The prompt that the model gets, where it was written out."""
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def prompt(self) -> str:
        """What the model gets: the order's prompt, or what was made of it."""
        return self.revised_prompt or self.order.prompt

    @property
    def overdue(self) -> bool:
        """Whether its deadline has passed."""
        return time.monotonic() > self.deadline


def preview_steps(steps: int, count: int) -> frozenset[int]:
    """At most `count` steps of 1..steps - 1, evenly spaced: after which of them previews are sent."""
    count = min(count, steps - 1)
    return frozenset(round(steps * (i + 1) / (count + 1)) for i in range(count))
