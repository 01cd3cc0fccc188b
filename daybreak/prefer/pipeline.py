"""A model of diffusers, or an adapter of one of our own, that learns preferences, as a trainee of the same loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from daybreak.config import Config
from daybreak.config.files import plain_settings
from daybreak.evaluate.asked_pictures import save_asked
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.shown import Shown
from daybreak.finetune.drawing import draw, draw_numbered
from daybreak.finetune.methods import weights
from daybreak.finetune.pipeline_trainee import PipelineTrainee
from daybreak.parallel import Ranks
from daybreak.prefer import settings as settings_file
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.ranking import Draw
from daybreak.prefer.real_pictures import has_real
from daybreak.run_folder import shown_folder
from daybreak.train.deadline import evaluation_prompts
from daybreak.train.meters import memory_gib
from daybreak.train.trainee import Samples

SHOWN = 8
"""Held-out prompts that are drawn as samples."""


@dataclass
class PreferringPipeline(PipelineTrainee):
    """reference: the trained weights as they were, by name; where the rest of the network is frozen, as
    under an adapter, they are all that differs. own_config: of a model of our own under an adapter."""

    lessons: Lessons
    own_config: Config | None = None
    reference: dict[str, Tensor] = field(default_factory=dict)

    go_on: str = field(default="daybreak prefer --resume", kw_only=True)
    knows_others: bool = field(default=True, kw_only=True)
    smaller = "a smaller --batch, or --method lora"

    def __post_init__(self) -> None:
        self.remarks = self.lessons.remarks
        self.reference = {name: p.detach().clone() for name, p in self.named_parameters().items()}

    @property
    def on_scenes(self) -> bool:
        """Whether the embedded world is drawn."""
        return self.own_config is not None and self.own_config.data.source == "scenes"

    def measured(
        self, batch: Any, speed: float, ranks: Ranks, watched: bool  # noqa: ARG002
    ) -> dict[str, float]:  # fmt: skip
        """The memory now and then."""
        return memory_gib(self.device) if watched else {}

    def draw_now(self) -> Draw:
        """Draws with the weights that are in place."""

        def draw_them(captions: Sequence[str], numbers: Sequence[int], seed: int) -> Tensor:
            side = self.base.side
            return draw_numbered(self.base.family.pipeline, list(captions), self.settings, side, seed, list(numbers))

        return draw_them

    def draw_reference(self) -> Draw:
        """Draws with the reference's."""

        def draw_them(captions: Sequence[str], numbers: Sequence[int], seed: int) -> Tensor:
            with weights(self.base.trained, self.reference):
                return self.draw_now()(captions, numbers, seed)

        return draw_them

    def draw(self, path: Path, ranks: Ranks, asked: Sequence[str] = ()) -> Samples:
        """Samples of held-out prompts; what is measured of these is told beside."""
        base, settings, yardstick = self.base, self.settings, self.lessons.yardstick
        prompts = yardstick.prompts[:SHOWN]
        with base.drawing():
            began = time.monotonic()
            pictures = draw(base.family.pipeline, yardstick.captions[:SHOWN], settings, base.side)
            seconds = (time.monotonic() - began) / len(prompts)
            wanted = draw(base.family.pipeline, list(asked), settings, base.side) if asked else None
            figures = self.lessons.measure(self.draw_now(), self.draw_reference())
        files = {}
        if ranks.first:
            save_grid(pictures, prompts, path)
            shown = Shown(shown_folder(path))
            shown.pictures(pictures, prompts)
            shown.close()
            files = save_asked(wanted, asked, path, 0) if wanted is not None else {}
        return Samples(None, seconds, {}, figures, files)

    def pictures_at_end(self) -> tuple[int, int]:
        """See `Trainee`; those of the report, none of which is left out."""
        config, compared = self.own_config, self.on_scenes or has_real(self.lessons.settings, self.own_config)
        judged = 2 * evaluation_prompts(config) if config is not None and self.on_scenes else 0
        return 0, judged + self.lessons.drawn_at_end(compared)

    def save_settings(self, run: Path) -> None:
        """RUN/finetune.yaml, and RUN/prefer.yaml."""
        super().save_settings(run)
        settings_file.save(self.lessons.settings, run)

    def plain_settings(self) -> dict[str, Any]:
        """See `Trainee`."""
        return super().plain_settings() | {"prefer": plain_settings(self.lessons.settings)}
