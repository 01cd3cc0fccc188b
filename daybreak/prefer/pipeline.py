"""A model of diffusers, or an adapter of one of our own, that learns preferences, as a trainee of the same loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.config.files import plain_settings
from daybreak.data.batch import Source
from daybreak.evaluate.asked_pictures import save_asked
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.shown import Shown
from daybreak.finetune.drawing import draw, draw_numbered
from daybreak.finetune.methods import weights
from daybreak.finetune.pipeline_trainee import PipelineTrainee
from daybreak.losses.preference import PairErrors, dpo_loss
from daybreak.parallel import Ranks
from daybreak.prefer import settings as settings_file
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.ranking import Draw
from daybreak.run_folder import shown_folder
from daybreak.train.meters import NoiseLevels, memory_gib
from daybreak.train.pixel import ORDER_SEED
from daybreak.train.trainee import Samples

SHOWN = 8
"""Held-out prompts that are drawn as samples."""


@dataclass(frozen=True)
class PairRandomness:
    """All that is random in a step of B pairs, the same for both pictures of a pair.

    noise, posterior [B, C, h, w]: what is added, and what latents are drawn with; t [B]: noise levels.
    """

    noise: Tensor
    posterior: Tensor
    t: Tensor

    def rows(self, rows: slice) -> PairRandomness:
        """Of some of the pairs."""
        return PairRandomness(self.noise[rows], self.posterior[rows], self.t[rows])


@dataclass
class PairwisePipeline(PipelineTrainee):
    """Diffusion-DPO. reference: the trained weights as they were, by name; where the rest of the network is frozen, as
    under an adapter, they are all that differs. own_config: of a model of our own under an adapter."""

    lessons: Lessons
    own_config: Config | None = None
    reference: dict[str, Tensor] = field(default_factory=dict)

    go_on: str = field(default="daybreak prefer --resume", kw_only=True)
    knows_others: bool = field(default=True, kw_only=True)
    calmer = "a smaller --lr, or a larger --beta"
    smaller = "a smaller --batch, or --method lora"

    def __post_init__(self) -> None:
        self.remarks = self.lessons.remarks
        self.reference = {name: p.detach().clone() for name, p in self.named_parameters().items()}

    @property
    def on_scenes(self) -> bool:
        """Whether the embedded world is drawn."""
        return self.own_config is not None and self.own_config.data.source == "scenes"

    # Data and steps.

    def open_source(self, index: int) -> Source:
        """The pairs of round `index`."""
        seed = self.settings.seed + ORDER_SEED * self.rollbacks
        with self.base.drawing():
            return self.lessons.pairs(index, self.base.side, seed, self.draw_now())

    def random(self, batch: Any, config: Config) -> PairRandomness:  # noqa: ARG002
        """See `Trainee`."""
        with torch.no_grad():
            like = self.base.family.rows(batch.winners[:1].to(self.device))
        count, family = self.settings.batch, self.base.family
        shape = (count, family.row_channels(like.shape[1]), *like.shape[2:])
        noise = self.base.process.noise_scale * torch.randn(shape, generator=self.generator)
        posterior = torch.randn(shape, generator=self.generator)
        return PairRandomness(noise, posterior, self.base.process.draw(count, self.generator))

    def loss(
        self, batch: Any, random: Any, config: Config, progress: float, share: float,  # noqa: ARG002
        levels: NoiseLevels | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`; of a `PairBatch` and its `PairRandomness`, by losses/preference.py."""
        family, process = self.base.family, self.base.process
        noise, posterior, t = (torch.cat([v, v]).to(self.device) for v in (random.noise, random.posterior, random.t))
        with torch.no_grad():
            x0 = family.x0(family.rows(torch.cat([batch.winners, batch.losers]).to(self.device)), posterior)
            text = {k: torch.cat([v, v]).to(self.device) for k, v in family.text(batch.captions).items()}
            side = self.base.side
            text["sizes"] = torch.tensor([[side, side, 0, 0, side, side]] * len(x0), device=self.device)
        x_t = process.interpolate(x0, noise, t)

        def errors() -> PairErrors:
            return PairErrors.of(process.squared_error(family.predict(family.network, x_t, t, text), x0, noise, t))

        with weights(self.base.trained, self.reference):
            reference = errors()
        own = errors()
        terms = dpo_loss(own, reference, self.lessons.settings.beta)
        if levels is not None:
            levels.add(own.winner.detach().float(), process.level(random.t).to(own.winner))
        return share * terms["preference"], {name: term.detach() for name, term in terms.items()}

    def measured(
        self, batch: Any, speed: float, matmul_rate: float, ranks: Ranks, watched: bool  # noqa: ARG002
    ) -> dict[str, float]:  # fmt: skip
        """The memory now and then."""
        return memory_gib(self.device) if watched else {}

    # Pauses.

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

    def save_settings(self, run: Path) -> None:
        """RUN/finetune.yaml, and RUN/prefer.yaml."""
        super().save_settings(run)
        settings_file.save(self.lessons.settings, run)

    def plain_settings(self) -> dict[str, Any]:
        """See `Trainee`."""
        return super().plain_settings() | {"prefer": plain_settings(self.lessons.settings)}
