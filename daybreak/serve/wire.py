"""What the server and the processes that draw tell each other, over a connection of multiprocessing."""

from __future__ import annotations

from dataclasses import dataclass

from daybreak.evaluate.adapter_option import AdapterFile
from daybreak.serve.about import About
from daybreak.serve.jobs import Event, Order
from daybreak.serve.models import ModelInfo
from daybreak.serve.settings import ServeSettings


@dataclass(frozen=True)
class Open:
    """To a new process: which model it draws with, on which of the devices (0, 1 ..); adapters that may be chosen."""

    spec: str
    settings: ServeSettings
    device: int
    loras: dict[str, AdapterFile]


@dataclass(frozen=True)
class Opened:
    """The model is there. devices: GPUs that the process sees, 0 without. unfit: adapters that don't fit, and why."""

    info: ModelInfo
    about: About
    unfit: dict[str, str]
    devices: int
    device: str


@dataclass(frozen=True)
class CannotOpen:
    """Why there is no model, for the operator."""

    reason: str


@dataclass(frozen=True)
class Ready:
    """The model is warm."""


@dataclass(frozen=True)
class Draw:
    """To the process: an order by its number, with `deadline` on the machine's monotonic clock."""

    number: int
    order: Order
    deadline: float
    preview_steps: frozenset[int]


@dataclass(frozen=True)
class Cancel:
    """To the process: no client waits for this order any more."""

    number: int


@dataclass(frozen=True)
class Begun:
    """These orders have left the line."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Told:
    """What happened to an order; the prompt it was written out to and its tokens, once they are known."""

    number: int
    event: Event
    revised_prompt: str | None
    text_tokens: int


@dataclass(frozen=True)
class Stepped:
    """Steps of the batch since the last such message: (pictures, seconds) of each; bytes that the process holds now."""

    steps: tuple[tuple[int, float], ...]
    memory: int
    gpu_memory: int


@dataclass(frozen=True)
class Finish:
    """To the process: nothing more comes; it ends when its line is empty."""
