"""Samples of the same few prompts, again and again during training; judged where the data allow it, and looked into."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from daybreak.config import Config, override
from daybreak.data.batch import Batch, Source
from daybreak.data.scenes.world import TASKS
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.attention_maps import draw_attention, draw_predictions, look_at_words
from daybreak.evaluate.composition import Prompt, judge_all, prompts_of_tasks, see_all
from daybreak.evaluate.grid import save_grid
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.sampling.generate import generate_together

PROMPTS = 24
COMPARED, ATTENDED, EXAMPLES = 12, 6, 4
"""Of the prompts: those sampled with another guidance too, those whose words are followed; pictures of the data."""
KINDS = {"classifier_free": "guided by text", "routed": "by routing", "both": "by text and routing"}


@dataclass(frozen=True)
class Drawn:
    """followed: share of prompts, None where nothing can judge; seconds: of sampling one picture.

    inside: files, by what they show; only the first process has them.
    """

    followed: float | None
    seconds: float
    inside: dict[str, Path]


class Probe:
    """Samples a fixed set of prompts: `evaluate.grid_prompts`, else prompts of `scenes`, else captions of the data."""

    def __init__(self, config: Config, source: Source) -> None:
        self._config, self._source = config, source
        self._examples: Batch | None = None
        self._judged: list[Prompt] = []
        if config.evaluate.grid_prompts:
            self.prompts = list(config.evaluate.grid_prompts)
        elif config.data.source == "scenes":
            # Another stream than the final score's, which this would otherwise give away in part.
            self._judged = prompts_of_tasks(PROMPTS // len(TASKS), config.evaluate.seed + 100)
            self.prompts = [p.text for p in self._judged]
        else:
            known = list(dict.fromkeys(source.some_captions(100_000)))
            rows = np.random.default_rng(config.evaluate.seed).permutation(len(known))[:PROMPTS]
            self.prompts = [known[r] for r in sorted(rows)]

    def draw(
        self, transformer: Transformer, text_encoder: TextEncoder, path: Path, ranks: Ranks = Ranks()
    ) -> Drawn:  # fmt: skip
        """Writes the grid to `path`, and beside it what goes on inside. `ranks` sample together; the first one writes.

        Nothing here touches the run's own random numbers. Raises OSError at the first process where a file cannot be
        written.
        """
        networks, seed = (transformer, text_encoder), self._config.evaluate.seed
        began = time.monotonic()
        pictures = generate_together(ranks, *networks, self.prompts, self._config, seed)
        seconds = time.monotonic() - began
        followed = judge_all(self._judged, see_all(pictures)) if self._judged else None
        other = self._other_guidance()
        chosen = spaced(len(self.prompts), COMPARED)
        compared = None
        if other is not None:  # all processes sample before the first one writes: it may fail in that
            prompts = [self.prompts[i] for i in chosen]
            compared = generate_together(ranks, *networks, prompts, other, seed, chosen)
        inside: dict[str, Path] = {}
        if ranks.first:
            save_grid(pictures, self.prompts, path, followed)
            if other is not None and compared is not None:
                inside["guidance"] = path.with_name(f"guidance-{path.name}")
                self._save_pairs(pictures[chosen], compared, chosen, other, inside["guidance"])
            inside |= self._look_inside(networks, pictures, path)
        share = float(np.mean(followed)) if followed is not None else None
        return Drawn(share, seconds / len(self.prompts), inside)

    def _other_guidance(self) -> Config | None:
        """The settings that sample with the other kind of guidance, where the recipe routes and guides at all."""
        c = self._config
        if c.routing.keep == 1 or c.sample.guidance == 1 or c.distill.teacher is not None:
            return None
        kind = "routed" if c.sample.guidance_kind == "classifier_free" else "classifier_free"
        return override(c, "sample.guidance_kind", kind)

    def _save_pairs(self, pictures: Tensor, others: Tensor, chosen: list[int], other: Config, path: Path) -> None:
        """Each prompt with the run's guidance, and beside it with the other one."""
        titles = []
        for i in chosen:
            titles += [f"{KINDS[self._config.sample.guidance_kind]}: {self.prompts[i]}",
                       KINDS[other.sample.guidance_kind]]  # fmt: skip
        save_grid(torch.stack([pictures, others], dim=1).flatten(0, 1), titles, path)

    def _look_inside(
        self, networks: tuple[Transformer, TextEncoder], pictures: Tensor, path: Path
    ) -> dict[str, Path]:  # fmt: skip
        """Shows attention over some of the pictures, and predictions of pictures of the data; {what: file}."""
        seed = self._config.evaluate.seed
        chosen = spaced(len(self.prompts), ATTENDED)
        drawn, prompts = pictures[chosen], [self.prompts[i] for i in chosen]
        inside = {name: path.with_name(f"{name}-{path.name}") for name in ("attention", "predictions")}
        draw_attention(
            drawn, prompts, look_at_words(*networks, drawn, prompts, self._config, seed), inside["attention"]
        )
        if self._examples is None:
            found = self._source.batch(0, min(EXAMPLES, self._config.train.batch))
            self._examples = Batch(found.images.clone(), found.captions)
        draw_predictions(*networks, self._examples, self._config, seed, inside["predictions"])
        return inside


def spaced(n: int, count: int) -> list[int]:
    """`count` of the numbers below n, evenly spaced from 0 on, or all where there are fewer."""
    return [i * n // count for i in range(count)] if n > count else list(range(n))
