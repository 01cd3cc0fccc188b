"""The same few prompts drawn again and again during training, and judged where the data allow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.data.scenes.world import TASKS
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.composition import Prompt, judge_all, prompts_of_tasks, see_all
from daybreak.evaluate.generate import generate_together
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.ranks import Ranks
from daybreak.model.transformer import Transformer

PROMPTS = 24


class Probe:
    """Draws a fixed set of prompts: `evaluate.grid_prompts`, else prompts of `scenes`, else captions of the data."""

    def __init__(self, config: Config, source: Source) -> None:
        self._config = config
        self._judged: list[Prompt] = []
        if config.evaluate.grid_prompts:
            self.prompts = list(config.evaluate.grid_prompts)
        elif config.data.source == "scenes":
            # Another stream than the final score's, which this would otherwise give a glimpse of.
            self._judged = prompts_of_tasks(PROMPTS // len(TASKS), config.evaluate.seed + 100)
            self.prompts = [p.text for p in self._judged]
        else:
            known = list(dict.fromkeys(source.some_captions(100_000)))
            rows = np.random.default_rng(config.evaluate.seed).permutation(len(known))[:PROMPTS]
            self.prompts = [known[r] for r in sorted(rows)]

    def draw(
        self, transformer: Transformer, text_encoder: TextEncoder, path: Path, ranks: Ranks = Ranks()
    ) -> float | None:
        """Writes the grid to `path`; returns the share of prompts followed, or None where nothing can judge.

        `ranks`: the processes that draw together; the first one writes.
        """
        pictures = generate_together(
            ranks, transformer, text_encoder, self.prompts, self._config, self._config.evaluate.seed
        )
        followed = judge_all(self._judged, see_all(pictures)) if self._judged else None
        if ranks.first:
            save_grid(pictures, self.prompts, path, followed)
        return float(np.mean(followed)) if followed is not None else None
