"""The model that a few-step student learns from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.formats.open import open_model
from daybreak.model.transformer import Transformer
from daybreak.sampling.guidance import Denoiser, classifier_free


class DistillationTeacher(nn.Module):
    """A trained model, frozen, that draws with guidance."""

    def __init__(self, transformer: Transformer, text_encoder: TextEncoder) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer.eval(), text_encoder.eval()
        self.requires_grad_(False)

    @classmethod
    def open(cls, config: Config) -> DistillationTeacher:
        """The model in `distill.teacher`. ConfigError where there is none, or it draws other pictures."""
        folder = config.distill.teacher
        assert folder is not None
        try:
            transformer, text_encoder, own = open_model(Path(folder), torch.device("cpu"))
        except ConfigError as e:
            raise ConfigError(f"distill.teacher: {e}") from None
        if own.diffusion.noise_scale != config.diffusion.noise_scale:
            raise ConfigError(
                f"diffusion.noise_scale is {config.diffusion.noise_scale:g}; the teacher in {folder} was trained with "
                f"{own.diffusion.noise_scale:g}"
            )
        return cls(transformer, text_encoder)

    def denoiser(self, captions: list[str], config: Config) -> Denoiser:
        """Its guided prediction for B captions."""
        text, empty = self.text_encoder(captions), self.text_encoder([""] * len(captions))
        interval = (config.sample.guidance_from, config.sample.guidance_to)
        return classifier_free(self.transformer, text, empty, config.distill.guidance, interval)
