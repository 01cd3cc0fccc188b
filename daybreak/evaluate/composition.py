"""Does the model follow its prompts? The six tasks of GenEval on `scenes`, and compositions held out from training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from daybreak.data.scenes.captions import captions_of, specs_of
from daybreak.data.scenes.draws import Draws
from daybreak.data.scenes.layout import training_scenes
from daybreak.data.scenes.world import (
    HELD_OUT_COLOR,
    SHAPES,
    TASKS,
    ObjectSpec,
    SceneSpec,
    is_held_out_arrangement,
)
from daybreak.evaluate.judge import ATTRIBUTES, SeenScene, attributes, matches, see

ONE_AND_TWO_OBJECT_TASKS = ("single_object", "two_object", "colors", "position", "color_attr")


@dataclass(frozen=True)
class Prompt:
    """A prompt and what a picture must show to satisfy it."""

    text: str
    spec: SceneSpec


def prompts_of_tasks(per_task: int, seed: int) -> list[Prompt]:
    """`per_task` prompts of each task, drawn as training captions are, but from another stream."""
    prompts = []
    for i, _ in enumerate(TASKS):
        draws = Draws(seed, np.arange(i * per_task, (i + 1) * per_task))
        only = tuple(float(i == k) for k in range(len(TASKS)))
        specs = specs_of(training_scenes(draws, only), draws)
        prompts += [Prompt(text, spec) for text, spec in zip(captions_of(specs, draws), specs, strict=True)]
    return prompts


def held_out_prompts(n: int, seed: int) -> list[Prompt]:
    """n prompts that training never answers: a held-out colour on one object or on one of two, or an arrangement."""
    draws = Draws(seed + 1, np.arange(n))
    kinds = [TASKS.index(("colors", "color_attr", "position")[i % 3]) for i in range(n)]
    specs = []
    for i, kind in enumerate(kinds):
        row = Draws(seed + 1, np.array([i]))
        only = tuple(float(kind == k) for k in range(len(TASKS)))
        (spec,) = specs_of(training_scenes(row, only), row)
        specs.append(_hold_out(spec))
    return [Prompt(text, spec) for text, spec in zip(captions_of(specs, draws), specs, strict=True)]


def _hold_out(spec: SceneSpec) -> SceneSpec:
    """Changes one thing of a training spec so that it becomes a held-out one."""
    first, *rest = spec.objects
    if spec.relation is None:
        changed = dataclasses.replace(first, color=HELD_OUT_COLOR[first.shape])
        return dataclasses.replace(spec, objects=(changed, *rest))
    for shape in SHAPES:
        if shape != first.shape and is_held_out_arrangement(first.shape, spec.relation, shape):
            second: ObjectSpec = rest[0]
            # A colour that the new shape may not have would hold out two things at once.
            color = None if second.color == HELD_OUT_COLOR[shape] else second.color
            return dataclasses.replace(spec, objects=(first, dataclasses.replace(second, shape=shape, color=color)))
    raise AssertionError(f"every shape has a held-out partner for {spec.relation}")


def see_all(pictures: Tensor) -> list[SeenScene]:
    """What the judge reads from each picture [B, 3, H, W]."""
    return [see(picture) for picture in pictures.cpu().numpy()]


def judge_all(prompts: list[Prompt], seen: list[SeenScene]) -> list[bool]:
    """Whether each picture satisfies its prompt."""
    return [matches(picture, p.spec) for p, picture in zip(prompts, seen, strict=True)]


def score_attributes(prompts: list[Prompt], seen: list[SeenScene]) -> dict[str, float]:
    """Of the pictures whose prompts name it, the share that has each attribute right, in [0, 1].

    Keys are `attribute_` and one of the judge's ATTRIBUTES; one that no prompt names, or whose objects are never as
    many as asked for, is left out.
    """
    found: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for p, picture in zip(prompts, seen, strict=True):
        for name, right in attributes(picture, p.spec).items():
            found[name].append(right)
    return {f"attribute_{name}": float(np.mean(hits)) for name, hits in found.items() if hits}


def hits_of(prompts: list[Prompt], followed: list[bool]) -> dict[str, list[tuple[int, int]]]:
    """(prompts followed, of how many) behind each figure of `score`: of one task, or of those whose mean it is."""

    def of(task: str | None) -> tuple[int, int]:
        """task: None for the held-out ones."""
        hits = [
            ok
            for p, ok in zip(prompts, followed, strict=True)
            if (p.spec.held_out if task is None else p.spec.task == task and not p.spec.held_out)
        ]
        return sum(hits), len(hits)

    tasks = {task: [found] for task in TASKS if (found := of(task))[1]}
    result = dict(tasks)
    result["one_and_two_objects"] = [tasks[t][0] for t in ONE_AND_TWO_OBJECT_TASKS if t in tasks]
    if (held_out := of(None))[1]:
        result["held_out"] = [held_out]
    result["overall"] = [found for (found,) in tasks.values()]
    return result


def score(prompts: list[Prompt], followed: list[bool]) -> dict[str, float]:
    """Shares of prompts followed, in [0, 1]: one for each task, `overall` (their mean, as GenEval's), and `held_out`.

    `one_and_two_objects` is the mean over the tasks without counting.
    """
    return {name: float(np.mean([hits / n for hits, n in of])) for name, of in hits_of(prompts, followed).items()}
