"""What is drawn to be judged: captions of the training pictures, and never a prompt of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daybreak.config import Config, ConfigError
from daybreak.data.open import open_source
from daybreak.data.scenes.source import ScenesSource
from daybreak.evaluate.composition import held_out_prompts, prompts_of_tasks
from daybreak.finetune.settings import read_lines
from daybreak.prefer.settings import PreferSettings

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
