"""What all trainees around a base of diffusers have in common; trainee.py learns pictures with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.config.files import plain_settings
from daybreak.data.batch import Source
from daybreak.finetune import settings as settings_file
from daybreak.finetune.prepared import Prepared
from daybreak.finetune.settings import FinetuneSettings
from daybreak.parallel import Ranks
from daybreak.train.trainee import Trainee


@dataclass
class PipelineTrainee(Trainee):
    """base: the pipeline, prepared for its method."""

    base: Prepared
    folder: Path

    begins_with_samples = True

    @property
    def settings(self) -> FinetuneSettings:
        """What the run was told."""
        return self.base.settings

    # What is trained.

    @property
    def device(self) -> torch.device:
        """See `Trainee`."""
        return self.base.device

    def trained_modules(self) -> dict[str, nn.Module]:
        """See `Trainee`."""
        trained, family = self.base.trained, self.base.family
        if trained.words:
            return {f"token.{name}": embedding for name, embedding in trained.words.items()}
        parts: dict[str, nn.Module] = {family.denoiser: family.network} | family.encoders
        return {name: part for name, part in parts.items() if any(part is n for n in trained.networks)}

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """See `Trainee`."""
        return self.base.trained.parameters

    def learning_rates(self) -> dict[str, float]:
        """Of the denoiser, or the new word, and of the text encoder where it is trained."""
        groups = self.optimizers[0].param_groups
        return dict(zip(("denoiser", "text"), (float(g["lr"]) for g in groups), strict=False))

    # Steps.

    def enter(self, config: Config, source: Source) -> None:
        """Nothing of a stage is kept."""

    def autocast(self) -> AbstractContextManager[Any]:
        """See `Trainee`."""
        return self.base.autocast()

    def update_averages(self) -> None:
        """After every step."""
        self.base.averages.update(self.step)

    def prepare(self) -> None:
        """What trains is in training mode."""
        for network in self.base.trained.networks:
            network.train()

    # Pauses.

    def measure(self, run: Path) -> dict[str, float]:
        """What `draw` measures is all there is."""
        raise NotImplementedError(f"{run}: fine-tuning has no evaluate.metrics")

    def snapshot(self, run: Path, ranks: Ranks) -> None:
        """There is one average."""
        raise NotImplementedError(f"{run}: fine-tuning has no train.posthoc_ema")

    # The run folder.

    def save_settings(self, run: Path) -> None:
        """RUN/finetune.yaml."""
        settings_file.save(self.settings, run)

    def plain_settings(self) -> dict[str, Any]:
        """See `Trainee`."""
        return plain_settings(self.settings)

    def tensors(self) -> dict[str, Tensor]:
        """weights.PART.NAME, and averaged.PART.NAME."""
        weights = {f"weights.{k}": p for k, p in self.base.trained.parameters.items()}
        return weights | {f"averaged.{k}": t for k, t in self.base.averages.tensors.items()}

    def write_drawing(self, folder: Path) -> Callable[[], None]:  # noqa: ARG002
        """Drawing needs the base as well: result.py writes what can be drawn with once training is over."""
        return lambda: None

    def restore_drawing(self, folder: Path) -> None:
        """Nothing was written."""
