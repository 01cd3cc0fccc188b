"""Does what was detected satisfy the prompt? GenEval's rules and thresholds, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from daybreak.evaluate.geneval.prompts import TASKS, GenEvalPrompt, Requirement

THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
"""A detection counts above this confidence; counting asks for more, since weak duplicates would be counted."""
MAX_OBJECTS = 16
"""Of a class, the most confident ones."""
POSITION_MARGIN = 0.1
"""Centres must lie further apart than this share of the two boxes' added sizes."""


@dataclass(frozen=True)
class Detection:
    """A found object: class, confidence in [0, 1], box (left, top, right, bottom) in px, mask [H, W] bool or none."""

    name: str
    confidence: float
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a picture satisfies its prompt; where not, why. met: the share of what is asked for, in [0, 1]."""

    correct: bool
    reason: str = ""
    met: float = 1.0


ColorOf = Callable[[Sequence[Detection]], list[str]]
"""Names the colour of each of some objects of one class."""


def confident(detections: Sequence[Detection], task: str) -> dict[str, list[Detection]]:
    """The detections that count for `task`, by class, most confident first."""
    threshold = COUNTING_THRESHOLD if task == "counting" else THRESHOLD
    kept: dict[str, list[Detection]] = {}
    for d in sorted(detections, key=lambda d: -d.confidence):
        if d.confidence > threshold and len(kept.setdefault(d.name, [])) < MAX_OBJECTS:
            kept[d.name].append(d)
    return {name: found for name, found in kept.items() if found}


def judge(prompt: GenEvalPrompt, detections: Sequence[Detection], color_of: ColorOf) -> Verdict:
    """GenEval's verdict. Every requirement must hold, and no excluded number of objects be reached.

    Colour and position look at the `count` most confident objects of a class alone, and position only where the
    requirement it refers to held. So one wrong colour among more objects than asked for does no harm where the most
    confident ones are right.
    """
    found = confident(detections, prompt.task)
    reasons: list[str] = []
    groups: list[list[Detection] | None] = []  # the objects of each requirement; none where it does not hold
    for requirement in prompt.included:
        objects = found.get(requirement.name, [])[: requirement.count]
        complaint = _complaint(requirement, objects, groups, color_of)
        groups.append(objects if complaint is None else None)
        if complaint is not None:
            reasons.append(complaint)
    for name, count in prompt.excluded:
        number = len(found.get(name, []))
        if number >= count:
            reasons.append(f"expected fewer than {count} {name}, found {number}")
    met = 1 - len(reasons) / max(1, len(prompt.included) + len(prompt.excluded))
    return Verdict(not reasons, "; ".join(reasons), met)


def _complaint(
    requirement: Requirement, objects: list[Detection], groups: list[list[Detection] | None], color_of: ColorOf
) -> str | None:
    """What `objects` lack to satisfy the requirement, or None."""
    r = requirement
    if len(objects) < r.count:
        return f"expected {r.count} {r.name}, found {len(objects)}"
    if r.color is not None:
        colors = color_of(objects)
        if colors.count(r.color) < r.count:
            return f"expected {r.count} {r.color} {r.name}, found {', '.join(colors)}"
    if r.relation is not None and r.target is not None:
        targets = groups[r.target]
        if targets is None:
            return f"nothing that {r.name} could be {r.relation}"
        for a in objects:
            for b in targets:
                relations = relative_position(a.box, b.box)
                if r.relation not in relations:
                    seen = " and ".join(sorted(relations)) or "no side of"
                    return f"expected {r.name} {r.relation} {b.name}, found {seen}"
    return None


def relative_position(a: Sequence[float], b: Sequence[float]) -> set[str]:
    """How box a (left, top, right, bottom) lies to box b: a subset of left of, right of, above, below.

    The offset of the centres, less the margin in each direction, over its own length before that; a direction counts
    above one half. A diagonal has two relations, boxes whose centres lie within the margin none.
    """
    left, right = np.asarray(a, dtype=float).reshape(2, 2), np.asarray(b, dtype=float).reshape(2, 2)
    offset = left.mean(axis=0) - right.mean(axis=0)
    size = np.abs(left[1] - left[0]) + np.abs(right[1] - right[0])
    beyond = np.maximum(np.abs(offset) - POSITION_MARGIN * size, 0) * np.sign(offset)
    if (np.abs(beyond) < 1e-3).all():
        return set()
    x, y = beyond / np.linalg.norm(offset)
    relations = {"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}
    return {name for name, holds in relations.items() if holds}


def scores(tasks: Sequence[str], correct: Sequence[bool]) -> dict[str, float]:
    """Share of correct pictures of each task that occurs, and `overall`, the mean of the tasks."""
    result = {}
    for task in TASKS:
        hits = [c for t, c in zip(tasks, correct, strict=True) if t == task]
        if hits:
            result[task] = float(np.mean(hits))
    return result | {"overall": float(np.mean(list(result.values())))}
