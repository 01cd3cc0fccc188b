"""How far drawn pictures lie from rendered scenes, as sets."""

from __future__ import annotations

import torch

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


@torch.no_grad()
def frechet_on_scenes(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, pictures: int
) -> tuple[float, float]:
    """(distance, floor): the Fréchet distance of drawn to rendered pictures, and of rendered to rendered ones.

    `pictures` scenes are rendered and their captions drawn; features are the embedded teacher's (192 a picture), at the
    side it was trained at, whatever the run's. The floor comes from another set of as many scenes, and is what remains
    from so few pictures where there is nothing to tell. Raises ValueError below two pictures.
    """
    device = next(transformer.parameters()).device
    teacher = EmbeddedTeacher.load().to(device)
    seed = config.evaluate.seed + SEED_OFFSET
    source = ScenesSource(config.data.resolution, seed, config.data.task_weights)
    drawn, rendered, others = RunningMoments(), RunningMoments(), RunningMoments()
    for start in range(0, pictures, CHUNK):
        size = min(CHUNK, pictures - start)
        batch = source.batch(start, size)
        for moments, images in (
            (drawn, generate(transformer, text_encoder, batch.captions, config, seed, first=start)),
            (rendered, batch.images),
            (others, source.batch(pictures + start, size).images),
        ):
            moments.add(picture_features(teacher, resize(images.to(device), (RESOLUTION, RESOLUTION))).cpu())
    reference = rendered.result()
    return frechet_distance(drawn.result(), reference), frechet_distance(others.result(), reference)
