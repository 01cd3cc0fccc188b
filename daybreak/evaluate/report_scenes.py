"""The score on `scenes` in a report: by task, and by attribute."""

from __future__ import annotations

from typing import Any

SCENES_TITLES = {
    "single_object": "single object",
    "two_object": "two objects",
    "counting": "counting",
    "colors": "colours",
    "position": "position",
    "color_attr": "colour attribution",
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


PLAIN = "as_they_stand_one_and_two_objects"


def scenes_score(scores: dict[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """What score.json says of the six tasks, and of each attribute by itself; empty where it says nothing of them."""
    return {part: [(title, scores[name]) for name, title in rows] for part, rows in scenes_rows(scores).items()}


def scenes_rows(scores: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Names in score.json with their titles, of `tasks` and of `attributes`; empty where it has none of them."""
    if "overall" not in scores:
        return {}
    tasks = [(k, title) for k, title in SCENES_TITLES.items() if k in scores]
    if PLAIN in scores:
        tasks.append((PLAIN, "one and two objects, prompts as they stand"))
    attributes = [(k, title) for n, title in ATTRIBUTE_TITLES.items() if (k := f"attribute_{n}") in scores]
    return {"tasks": tasks, "attributes": attributes}
