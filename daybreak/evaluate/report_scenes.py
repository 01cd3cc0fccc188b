"""The score on `scenes` in a report: by task, and by attribute."""

from __future__ import annotations

from typing import Any

from daybreak.data.scenes.world import TASKS
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


def scenes_score(scores: dict[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """What score.json says of the six tasks, and of each attribute by itself; empty where it says nothing of them."""
    if "overall" not in scores:
        return {}
    tasks = [(SCENES_TITLES.get(k, k), scores[k]) for k in (*TASKS, *SCENES_TITLES) if k in scores]
    if (plain := scores.get("as_they_stand_one_and_two_objects")) is not None:
        tasks.append(("one and two objects, prompts as they stand", plain))
    attributes = [(ATTRIBUTE_TITLES[n], scores[k]) for n in ATTRIBUTES if (k := f"attribute_{n}") in scores]
    return {"tasks": tasks, "attributes": attributes}
