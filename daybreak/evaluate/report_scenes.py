"""The score on `scenes` in a report: by task, and by attribute."""

from __future__ import annotations

from typing import Any

from daybreak.data.scenes.world import TASKS
from daybreak.evaluate import html_parts as parts_of
from daybreak.evaluate.judge import ATTRIBUTES

SCENES_TITLES = {
    "one_and_two_objects": "one and two objects",
    "held_out": "held-out combinations",
    "overall": "overall",
}
ATTRIBUTE_TITLES = {
    "number": "number of objects",
    "background": "background",
    "outline": "clean outlines",
    "shape": "the right shapes",
    "color": "colours",
    "size": "sizes",
    "position": "positions",
}


def scenes_score(scores: dict[str, Any]) -> str:
    """HTML of what score.json says of the six tasks, and of each attribute by itself."""
    rows = [(SCENES_TITLES.get(k, k), scores[k]) for k in (*TASKS, *SCENES_TITLES) if k in scores]
    if (plain := scores.get("as_they_stand_one_and_two_objects")) is not None:
        rows.append(("one and two objects, prompts as they stand", plain))
    note = (
        "<p class=soft>Share of prompts whose picture satisfies them in every attribute, as a program reads it "
        "from the pixels. Held-out combinations never occur in training. Overall is the mean of the six tasks.</p>"
    )
    right = [(ATTRIBUTE_TITLES[n], scores[k]) for n in ATTRIBUTES if (k := f"attribute_{n}") in scores]
    if not right:
        return parts_of.bars(rows) + note
    explained = (
        "<p class=soft>The same pictures, one attribute at a time: the share that has it right, where the prompt names "
        "it. What is said of objects holds for pictures that show as many as were asked for.</p>"
    )
    return parts_of.bars(rows) + note + parts_of.bars(right) + explained
