"""Flow-GRPO of a model of our own that is trained itself (rolling.py)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from daybreak.config import Config
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextEncoder
from daybreak.model.transformer import Transformer
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.ranking import Draw
from daybreak.prefer.rolling import Canvas, Rolling
from daybreak.prefer.rollout import Denoisers
from daybreak.prefer.trainee import Preferring
from daybreak.sampling.generate import with_empty
from daybreak.sampling.guidance import Denoiser, classifier_free, conditional


@dataclass
class Online(Rolling, Preferring):
    """Draws in pixels."""

    def taught(self) -> Lessons:
        """See `Rolling`."""
        assert self.lessons is not None
        return self.lessons

    def tensors(self) -> dict[str, Tensor]:
        """See `Trainee`; and rollout.NAME."""
        return super().tensors() | self.rolled()

    def canvas(self) -> Canvas:
        """See `Rolling`."""
        d, side = self.config.diffusion, self.config.data.resolution
        return Canvas((3, side, side), d.noise_scale, side, sampling_times(self.settings.draw_steps, d.shift))

    def denoisers(self) -> Denoisers:
        """See `Rolling`."""
        return self._denoisers(self.transformer, self.text_encoder)

    @contextmanager
    def as_reference(self) -> Generator[Denoisers]:
        """See `Rolling`."""
        yield self._denoisers(*self.frozen())

    def decode(self, x: Tensor) -> Tensor:
        """See `Rolling`."""
        return x

    def draw_before(self) -> Draw:
        """See `Rolling`."""
        return self.draw_with(*self.frozen())

    def _denoisers(self, transformer: Transformer, text_encoder: TextEncoder) -> Denoisers:
        chosen = self.settings.guidance
        guidance = self.config.sample.guidance if chosen is None else chosen
        return denoisers_of(transformer, text_encoder, guidance, self.config)


def denoisers_of(transformer: Transformer, text_encoder: TextEncoder, guidance: float, config: Config) -> Denoisers:
    """Captions to what denoises their pictures, guided by text."""
    interval = (config.sample.guidance_from, config.sample.guidance_to)

    def of(captions: Sequence[str]) -> Denoiser:
        if guidance == 1:
            return conditional(transformer, text_encoder(list(captions)))
        return classifier_free(transformer, *with_empty(text_encoder, list(captions)), guidance, interval)

    return of
