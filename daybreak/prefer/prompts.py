"""What is drawn to be judged: captions of the training pictures, and never a prompt of the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from daybreak.config import Config, ConfigError
from daybreak.data.open import open_source
from daybreak.data.scenes.source import ScenesSource
from daybreak.evaluate.composition import held_out_prompts, prompts_of_tasks
from daybreak.finetune.settings import read_lines
from daybreak.prefer.settings import PreferSettings

if TYPE_CHECKING:
    from torch import Tensor

MOST = 20_000
"""Captions that are looked at."""
FIRST_HELD_OUT = 10_000_000
APART = 7
"""Added to the seed for the order in which captions are taken."""


@dataclass(frozen=True)
class Prompts:
    """learnt: prompts to learn from; held_out: others, to measure with."""

    learnt: list[str]
    held_out: list[str]

    @classmethod
    def of(cls, captions: Sequence[str], held_out: int, seed: int, never: Sequence[str] = ()) -> Prompts:
        """Different captions in an order of the seed, without those of `never`. ConfigError for fewer than 4."""
        refused = {" ".join(text.split()) for text in never} | {""}
        known = [c for c in dict.fromkeys(captions) if " ".join(c.split()) not in refused]
        if len(known) < 4:
            raise ConfigError(f"{len(known)} different prompts remain without those of the evaluation; 4 are needed")
        order = [known[i] for i in np.random.default_rng([seed, APART]).permutation(len(known))]
        kept = min(held_out, len(order) // 2)
        return cls(order[kept:], order[:kept])

    def held_out_numbered(self) -> list[tuple[int, str]]:
        """(number, prompt) of those that are held out; no number is one of a round's."""
        return list(enumerate(self.held_out, FIRST_HELD_OUT))

    def of_round(self, index: int, count: int) -> list[tuple[int, str]]:
        """(number, prompt) of `count` prompts of round `index`, from the beginning again where they are used up."""
        numbers = range(index * count, (index + 1) * count)
        return [(n, self.learnt[n % len(self.learnt)]) for n in numbers]


@dataclass(frozen=True)
class PromptBatch:
    """B prompts as they are judged, and the captions that the network is given; draw: draws their pictures [B, 3, S, S]
    of `side` px as the model was before it learnt."""

    prompts: list[str]
    captions: list[str]
    side: int
    draw: Callable[[], Tensor]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def images(self) -> Tensor:
        """What stands for the data where examples of them are shown."""
        return self.draw()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the pictures, one for each prompt."""
        return len(self), 3, self.side, self.side

    def rows(self, rows: slice) -> PromptBatch:
        """Some of the prompts."""
        return PromptBatch(self.prompts[rows], self.captions[rows], self.side, lambda: self.draw()[rows])

    def pinned(self) -> PromptBatch:
        """Itself: there is nothing to move."""
        return self


@dataclass(frozen=True)
class PromptSource:
    """Prompts to draw, the same ones for `repeats` batches. write_out, draw: see ranking.py; side: of pictures, px."""

    prompts: Prompts
    write_out: Callable[[Sequence[str], Sequence[int]], list[str]]
    draw: Callable[[Sequence[str], Sequence[int], int], Tensor]
    side: int
    repeats: int

    def batch(self, position: int, size: int) -> PromptBatch:
        """The prompts of batch number `position` / `size`."""
        numbers, prompts = zip(*self.prompts.of_round(position // size // self.repeats, size), strict=True)
        captions = self.write_out(prompts, numbers)
        return PromptBatch(list(prompts), captions, self.side, lambda: self.draw(captions, numbers, 0))

    def some_captions(self, n: int) -> list[str]:
        """The first n prompts."""
        return self.prompts.learnt[:n]

    def describe(self) -> str:
        """One line for the log."""
        return f"{len(self.prompts.learnt)} prompts to draw at {self.side} px"


def open_prompts(settings: PreferSettings, config: Config | None, only: Sequence[str] | None) -> Prompts:
    """Those of --captions, else captions of what the model was trained on, on `scenes` as people write them, short.

    config: the model's, where it is one of our own; only: the prompts that the judge knows, in their place. ConfigError
    where there are none.
    """
    if only is not None:
        captions: Sequence[str] = only
    elif settings.captions is not None:
        captions = read_lines(settings.captions, "--captions")
    elif config is not None and config.data.source == "scenes":
        d = config.data
        captions = ScenesSource(d.resolution, config.train.seed, d.task_weights).some_captions(MOST // 4)
    elif config is not None and (config.data.folder or config.data.shards):
        captions = open_source(config).some_captions(MOST)
    else:
        raise ConfigError(f"{settings.run} does not say what it was trained on: give prompts with --captions FILE")
    never = evaluation_prompts(config) if config is not None else ()
    return Prompts.of(captions, settings.held_out, settings.seed, never)


def evaluation_prompts(config: Config) -> list[str]:
    """What a run is judged by, and shown by while it trains."""
    e, found = config.evaluate, list(config.evaluate.grid_prompts)
    if config.data.source == "scenes":
        judged = prompts_of_tasks(e.prompts_per_task, e.seed) + held_out_prompts(e.held_out_prompts, e.seed)
        found += [p.text for p in judged]
    return found
