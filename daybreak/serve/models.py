"""What the server asks of a model, and how one is opened."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from daybreak.evaluate.adapter_option import AdapterFile
from daybreak.serve.about import About
from daybreak.serve.jobs import Job, Order, Pixels
from daybreak.serve.settings import ServeSettings

if TYPE_CHECKING:
    from daybreak.finetune.adapter_reading import Parts
    from daybreak.finetune.chosen_loras import ChosenLoras

log = logging.getLogger("daybreak")


@dataclass(frozen=True)
class ModelInfo:
    """What clients may know. Sizes in px; `multiple` divides every side; steps and guidance are the defaults."""

    name: str
    size: int
    multiple: int
    max_size: int
    steps: int
    guidance: float
    created: int
    """Seconds since 1970."""
    previews: bool
    """Whether intermediate pictures can be streamed."""
    expand: str | None = None
    """Who writes prompts out first, as `sample.expand`."""
    edits: bool = True
    """Whether it can start from a picture, and keep what a mask says."""
    loras: tuple[str, ...] = ()
    """Names of the adapters that an order may ask for."""


def expander_of(settings: ServeSettings, own: str | None) -> str | None:
    """Who writes a model's prompts out: whom the operator names, else whom the model's own settings name."""
    return own if settings.expand is None else None if settings.expand == "none" else settings.expand


class Row:
    """A picture being generated. `pixels` is set when it is finished."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.step = 0
        self.pixels: Pixels | None = None


class ServedModel(ABC):
    """Generates rows together, one step at a time. Called from one thread only."""

    info: ModelInfo
    about: About = About()
    """What the page says of it beside."""
    rows_limit: int | None = None
    """Most rows that the model can generate together; none: as many as the server allows."""
    unfit: Mapping[str, str] = MappingProxyType({})
    """Adapters that it was offered and can't draw with, by name, and why."""
    _loras: ChosenLoras | None = None

    def offer(self, files: Mapping[str, AdapterFile]) -> None:
        """Takes up the adapters that orders may ask for; see `info.loras` and `unfit`."""
        from daybreak.finetune.chosen_loras import ChosenLoras  # torch, which the server's own process does without

        self._loras = ChosenLoras(self.networks(), files, log.warning)
        self.unfit = self._loras.unfit
        self.info = replace(self.info, loras=self._loras.names)

    def use(self, order: Order) -> None:
        """Puts the adapters of an order onto the networks, and takes others off."""
        if self._loras is not None:
            self._loras.use(order.loras)

    @abstractmethod
    def networks(self) -> Parts:
        """Those that adapters can be for."""

    @abstractmethod
    def shape(self, order: Order) -> Hashable:
        """Orders of one shape can be generated together."""

    @abstractmethod
    def begin(self, jobs: list[Job]) -> list[Row]:
        """New rows for jobs of one shape."""

    @abstractmethod
    def advance(self, rows: list[Row]) -> None:
        """Takes all rows one step further; tells previews; sets `pixels` of those that are finished."""

    def warm_up(self, rows: int) -> None:
        """Generates `rows` pictures for no client, so that the first one does not wait for kernels to be made."""
        size, steps = self.info.size, min(2, self.info.steps)
        order = Order("warm-up", "", size, size, steps, self.info.guidance, seed=0)
        drawn = self.begin([Job(order, lambda _event: None, deadline=float("inf")) for _ in range(rows)])
        while any(row.pixels is None for row in drawn):
            self.advance(drawn)
