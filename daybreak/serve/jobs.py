"""A picture on its way from a request to the model and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Pixels = np.ndarray
"""[H, W, 3] uint8 sRGB."""


@dataclass(frozen=True, eq=False)
class Start:
    """The picture that another is drawn from, of the order's size.

    mask [H, W] bool: True where it may change; none: everywhere. strength: the share of the steps that are taken from
    it on; with 1 nothing of it is left but what the mask keeps.
    """

    pixels: Pixels
    mask: np.ndarray | None
    strength: float


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
    start: Start | None = None
    """What it is drawn from; none: noise alone."""
    loras: tuple[tuple[str, float], ...] = ()
    """Adapters to draw with and their strengths, in the model's own order."""

    @property
    def first_step(self) -> int:
        """How many of its steps are left out, as it starts from a picture."""
        return 0 if self.start is None else self.steps - max(1, round(self.start.strength * self.steps))

    @property
    def size(self) -> str:
        """As "WIDTHxHEIGHT"."""
        return f"{self.width}x{self.height}"


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
    text_tokens: int = 0
    """Tokens of the prompt, once the model has read it."""
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


def preview_steps(order: Order, count: int) -> frozenset[int]:
    """At most `count` of an order's steps but the last, evenly spaced: after which of them previews are sent."""
    taken = order.steps - order.first_step
    count = min(count, taken - 1)
    return frozenset(order.first_step + round(taken * (i + 1) / (count + 1)) for i in range(count))
