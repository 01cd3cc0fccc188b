"""report.html of a blind comparison: one self-contained page for a reader who was not there."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from PIL import Image

from daybreak.html.page import write_page
from daybreak.vote.results import QuestionResults, VoterSummary, outcome
from daybreak.vote.study import QUESTIONS, Study, picture_path
from daybreak.vote.verdict import doubt, verdict, without_doubted
from daybreak.vote.votes import Vote

THUMBNAIL_PX = 200
SHOWN_PAIRS = 6
"""Pairs shown of every question, those on which the votes were clearest."""


def write_report(
    folder: Path, study: Study, votes: list[Vote], results: list[QuestionResults], voters: list[VoterSummary]
) -> Path:
    """Writes DIR/report.html; returns its path."""
    cast = [v.cast_at for v in votes]
    others = without_doubted(study, votes, voters)
    active = sum(v.votes > 0 for v in voters)
    return write_page(
        folder / "report.html",
        "votes.html",
        title=" against ".join(study.contestants),
        about=f"Blind comparison by {active} voter{'s' if active != 1 else ''}: {len(votes)} votes on "
        f"{len(study.prompts)} prompts, {_days(min(cast), max(cast))}. Voters saw two pictures at a time, in "
        f"random order and on random sides, without names. Seed {study.seed}",
        names=study.contestants,
        questions=[_question(folder, study, r, votes, others.get(r.question)) for r in results if r.votes],
        voters=voters,
        doubt=doubt,
        kappa=lambda value: "undefined" if math.isnan(value) else f"{value:.2f}",
        seconds=lambda value: "–" if math.isnan(value) else f"{value:.1f} s",
    )


def _days(first: str, last: str) -> str:
    """The dates of two ISO times."""
    return first[:10] if first[:10] == last[:10] else f"{first[:10]} to {last[:10]}"


def _question(
    folder: Path, study: Study, r: QuestionResults, votes: list[Vote], without: str | None
) -> dict[str, Any]:  # fmt: skip
    s = r.scores
    return {
        "title": QUESTIONS[r.question],
        "verdict": verdict(study, r),
        "without": without,
        "results": r,
        "ranked": [k for k in sorted(range(len(study.contestants)), key=lambda k: -s.score[k]) if r.totals[k].n],
        "reach": max(1.0, float(max(abs(s.low).max(), abs(s.high).max()))),
        "clearest": _clearest(folder, study, [v for v in votes if v.question == r.question]),
    }


def _clearest(folder: Path, study: Study, votes: list[Vote]) -> list[dict[str, Any]]:
    """The pairs on which most voters were of one mind, in turn won by each contestant."""
    margins: dict[tuple[int, int, int], float] = defaultdict(float)
    for v in votes:
        first, second = sorted((v.pair.left, v.pair.right))
        margins[v.pair.item, first, second] += 2 * outcome(v, first) - 1
    won: dict[int, list[tuple[float, int, int, int]]] = defaultdict(list)
    for (item, first, second), margin in sorted(margins.items(), key=lambda m: (-abs(m[1]), m[0])):
        if margin:
            winner, loser = (first, second) if margin > 0 else (second, first)
            won[winner].append((abs(margin), item, winner, loser))
    turns = [w[i] for i in range(SHOWN_PAIRS) for w in (won[k] for k in sorted(won)) if i < len(w)]
    return [
        {
            "prompt": study.prompts[item],
            "margin": margin,
            "winner": winner,
            "loser": loser,
            "won": _thumbnail(picture_path(folder, item, winner)),
            "lost": _thumbnail(picture_path(folder, item, loser)),
        }
        for margin, item, winner, loser in turns[:SHOWN_PAIRS]
    ]


def _thumbnail(path: Path) -> bytes:
    """A small PNG."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    if max(small.size) < THUMBNAIL_PX:
        scale = THUMBNAIL_PX // max(small.size)
        small = small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True)
    return data.getvalue()
