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
from daybreak.evaluate.attention_maps import draw_attention, draw_predictions, look_at_words, predict
from daybreak.evaluate.composition import Prompt, judge_all, prompts_of_tasks, see_all
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.judge import tell
from daybreak.evaluate.shown import Shown
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.run_folder import shown_folder
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
        seen = see_all(pictures) if self._judged else None
        followed = judge_all(self._judged, seen) if seen else None
        other = self._other_guidance()
        chosen = spaced(len(self.prompts), COMPARED)
        compared = None
        if other is not None:  # all processes sample before the first one writes: it may fail in that
            prompts = [self.prompts[i] for i in chosen]
            compared = generate_together(ranks, *networks, prompts, other, seed, chosen)
        inside: dict[str, Path] = {}
        if ranks.first:
            save_grid(pictures, self.prompts, path, followed)
            shown = Shown(shown_folder(path))
            told = [tell(s, p.spec) for s, p in zip(seen, self._judged, strict=True)] if seen else None
            files = shown.pictures(pictures, self.prompts, followed, told)
            if other is not None and compared is not None:
                inside["guidance"] = path.with_name(f"guidance-{path.name}")
                self._save_pairs(pictures[chosen], compared, chosen, other, inside["guidance"])
                shown.guidance(
                    [files[i] for i in chosen], compared, [self.prompts[i] for i in chosen], self._kinds(other)
                )
            inside |= self._look_inside(networks, pictures, path, shown, files)
            shown.close()
        share = float(np.mean(followed)) if followed is not None else None
        return Drawn(share, seconds / len(self.prompts), inside)

    def _other_guidance(self) -> Config | None:
        """The settings that sample with the other kind of guidance, where the recipe routes and guides at all."""
        c = self._config
        if c.routing.keep == 1 or c.sample.guidance == 1 or c.distill.teacher is not None:
            return None
        kind = "routed" if c.sample.guidance_kind == "classifier_free" else "classifier_free"
        return override(c, "sample.guidance_kind", kind)

    def _kinds(self, other: Config) -> tuple[str, str]:
        return KINDS[self._config.sample.guidance_kind], KINDS[other.sample.guidance_kind]

    def _save_pairs(self, pictures: Tensor, others: Tensor, chosen: list[int], other: Config, path: Path) -> None:
        """Each prompt with the run's guidance, and beside it with the other one."""
        ours, theirs = self._kinds(other)
        titles = []
        for i in chosen:
            titles += [f"{ours}: {self.prompts[i]}", theirs]
        save_grid(torch.stack([pictures, others], dim=1).flatten(0, 1), titles, path)

    def _look_inside(
        self, networks: tuple[Transformer, TextEncoder], pictures: Tensor, path: Path, shown: Shown, files: list[str]
    ) -> dict[str, Path]:  # fmt: skip
        """Shows attention over some of the pictures, and predictions of pictures of the data; {what: file}."""
        seed = self._config.evaluate.seed
        chosen = spaced(len(self.prompts), ATTENDED)
        drawn, prompts = pictures[chosen], [self.prompts[i] for i in chosen]
        inside = {name: path.with_name(f"{name}-{path.name}") for name in ("attention", "predictions")}
        looks = look_at_words(*networks, drawn, prompts, self._config, seed)
        draw_attention(drawn, prompts, looks, inside["attention"])
        shown.words([files[i] for i in chosen], prompts, looks)
        if self._examples is None:
            found = self._source.batch(0, min(EXAMPLES, self._config.train.batch))
            self._examples = Batch(found.images.clone(), found.captions)
        rows = predict(*networks, self._examples, self._config, seed)
        draw_predictions(rows, inside["predictions"])
        shown.noise(rows)
        return inside


def spaced(n: int, count: int) -> list[int]:
    """`count` of the numbers below n, evenly spaced from 0 on, or all where there are fewer."""
    return [i * n // count for i in range(count)] if n > count else list(range(n))
