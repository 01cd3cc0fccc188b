"""GenEval's prompts and what each picture must show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybreak.config import ConfigError

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Requirement:
    """`count` objects of class `name`; all of `color`; each standing in `relation` to those of requirement `target`."""

    name: str
    count: int
    color: str | None = None
    relation: str | None = None
    target: int | None = None


@dataclass(frozen=True)
class GenEvalPrompt:
    """A prompt. `excluded`: (class, count) of which the picture must show fewer. `metadata`: the line it came from."""

    text: str
    task: str
    included: tuple[Requirement, ...]
    excluded: tuple[tuple[str, int], ...]
    metadata: dict[str, Any]


def read_prompts(path: Path) -> list[GenEvalPrompt]:
    """GenEval's evaluation_metadata.jsonl. Raises ConfigError that names the line where it is not of that form."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: GenEval's prompts cannot be read: {getattr(e, 'strerror', None) or e}") from None
    prompts = [parse_prompt(line, f"{path}, line {n}") for n, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise ConfigError(f"{path} holds no prompts")
    return prompts


def parse_prompt(line: str, where: str) -> GenEvalPrompt:
    """One line of GenEval's metadata; ConfigError, which begins with `where`, for anything else."""
    try:
        row = json.loads(line)
        included = tuple(_requirement(r, index) for index, r in enumerate(row["include"]))
        excluded = tuple((r["class"], int(r["count"])) for r in row.get("exclude", []))
        if row["tag"] not in TASKS:
            raise ValueError(f"tag {row['tag']!r} is none of {', '.join(TASKS)}")
        return GenEvalPrompt(str(row["prompt"]), row["tag"], included, excluded, row)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        reason = f"{e} is missing" if isinstance(e, KeyError) else e
        raise ConfigError(f"{where} is no GenEval prompt: {reason}") from None


def _requirement(row: dict[str, Any], index: int) -> Requirement:
    relation, target = row.get("position", (None, None))
    if row.get("color") not in (None, *COLORS):
        raise ValueError(f"color {row['color']!r} is none of {', '.join(COLORS)}")
    if relation not in (None, *RELATIONS):
        raise ValueError(f"position {relation!r} is none of {', '.join(RELATIONS)}")
    if target is not None and not 0 <= target < index:
        raise ValueError(f"position refers to object {target}, which does not come before it")
    return Requirement(str(row["class"]), int(row["count"]), row.get("color"), relation, target)
