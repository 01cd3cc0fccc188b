"""How a model of our own draws the embedded world, before and after: each task and attribute, the Fréchet distance."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from daybreak.ablate.frechet import RenderedScenes
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.scoring import evaluate_scenes, judge_scenes
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.prefer.findings import Findings, Row
from daybreak.sampling.generate import generate

Networks = tuple[Transformer, TextEncoder]
SCENES = ("overall", "one_and_two_objects", "held_out")


def compare_on_scenes(
    found: Findings, run: Path, config: Config, count: int, now: Networks, then: Networks,
    as_then: AbstractContextManager[None],
) -> None:  # fmt: skip
    """Adds what `daybreak evaluate` says of both, and the distances of `count` pictures to rendered ones.

    RUN/score.json is that of `now`. as_then: within, `then` has the weights from before.
    """
    e = config.evaluate
    scores = evaluate_scenes(*now, config, run, Ranks()).scores
    rendered = RenderedScenes(config, count, next(now[0].parameters()).device)
    distance = rendered.distance(*now)
    with as_then:
        was = judge_scenes(lambda prompts: generate(*then, prompts, config, e.seed), e, None).scores
        distance_then = rendered.distance(*then)
    names = [*SCENES, *(k for k in was if k.startswith("attribute_"))]
    found.rows += [
        Row(f"scenes: {k.replace('attribute_', '').replace('_', ' ')}", was[k], scores[k], share=True)
        for k in names
        if k in was and k in scores
    ]
    found.rows.append(Row("scenes: Fréchet distance", distance_then, distance, better="lower"))
