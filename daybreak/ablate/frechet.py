"""How far drawn pictures lie from rendered scenes, as sets."""

from __future__ import annotations

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.data.scenes.source import ScenesSource
from daybreak.encoders.embedded_teacher import EmbeddedTeacher, picture_features
from daybreak.encoders.teacher_file import RESOLUTION
from daybreak.encoders.text import TextEncoder
from daybreak.encoders.vision import resize
from daybreak.evaluate.metrics import RunningMoments, frechet_distance
from daybreak.model.transformer import Transformer
from daybreak.sampling.generate import generate

CHUNK = 256
"""Pictures that exist at once."""
SEED_OFFSET = 200
"""From evaluate.seed to the seed of the scenes compared with, which neither training nor the score sees."""


class RenderedScenes:
    """`pictures` rendered scenes, as a set that drawn pictures of their captions are compared with.

    Features are the embedded teacher's (192 a picture), at the side it was trained at, whatever the run's. Raises
    ValueError below two pictures.
    """

    def __init__(self, config: Config, pictures: int, device: torch.device) -> None:
        self.config, self.pictures, self._seed = config, pictures, config.evaluate.seed + SEED_OFFSET
        self._teacher = EmbeddedTeacher.load().to(device)
        self._source = ScenesSource(config.data.resolution, self._seed, config.data.task_weights)
        self._captions: list[list[str]] = []
        seen = RunningMoments()
        for start, size in self._chunks():
            batch = self._source.batch(start, size)
            self._captions.append(batch.captions)
            seen.add(self._features(batch.images))
        self._moments = seen.result()

    def distance(self, transformer: Transformer, text_encoder: TextEncoder) -> float:
        """The Fréchet distance of what a model draws of the captions."""
        drawn = RunningMoments()
        for (start, _), captions in zip(self._chunks(), self._captions, strict=True):
            images = generate(transformer, text_encoder, captions, self.config, self._seed, first=start)
            drawn.add(self._features(images))
        return frechet_distance(drawn.result(), self._moments)

    def floor(self) -> float:
        """The distance of another set of as many rendered scenes, which remains from so few pictures where there is
        nothing to tell."""
        others = RunningMoments()
        for start, size in self._chunks():
            others.add(self._features(self._source.batch(self.pictures + start, size).images))
        return frechet_distance(others.result(), self._moments)

    def _chunks(self) -> list[tuple[int, int]]:
        return [(start, min(CHUNK, self.pictures - start)) for start in range(0, self.pictures, CHUNK)]

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        device = next(self._teacher.parameters()).device
        return picture_features(self._teacher, resize(images.to(device), (RESOLUTION, RESOLUTION))).cpu()


def frechet_on_scenes(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, pictures: int
) -> tuple[float, float]:
    """(distance, floor) of a model, see `RenderedScenes`."""
    scenes = RenderedScenes(config, pictures, next(transformer.parameters()).device)
    return scenes.distance(transformer, text_encoder), scenes.floor()
