"""Questions about pictures as DPG-Bench has them (arXiv 2403.05135): a CSV."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from daybreak.config import ConfigError

COLUMNS = ("text", "proposition_id", "dependency", "category_broad", "question_natural_language")


@dataclass(frozen=True)
class Question:
    """A yes-or-no question; it can only hold where those numbered `parents` do ("is the dog brown?" needs a dog)."""

    number: int
    text: str
    parents: tuple[int, ...]
    category: str


def read_questions(path: Path) -> dict[str, list[Question]]:
    """{prompt: its questions} of a CSV with DPG-Bench's columns. Raises ConfigError that names the line otherwise."""
    found: dict[str, list[Question]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if missing := [c for c in COLUMNS if c not in (rows.fieldnames or ())]:
                raise ConfigError(f"--questions {path} lacks the columns {', '.join(missing)} of DPG-Bench's CSV")
            for row in rows:
                try:
                    parents = tuple(int(p) for p in row["dependency"].split(",") if p.strip() not in ("", "0"))
                    question = Question(
                        int(row["proposition_id"]), row["question_natural_language"], parents, row["category_broad"]
                    )
                except (ValueError, AttributeError) as e:
                    raise ConfigError(f"--questions {path}, line {rows.line_num}: {e}") from None
                found.setdefault(row["text"].strip(), []).append(question)
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"--questions {path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if not found:
        raise ConfigError(f"--questions {path} holds no questions")
    for prompt, questions in found.items():
        numbers = {q.number for q in questions}
        if unknown := {p for q in questions for p in q.parents} - numbers:
            raise ConfigError(f"--questions {path}: a question of {prompt[:40]!r} depends on {min(unknown)}, not there")
    return found
