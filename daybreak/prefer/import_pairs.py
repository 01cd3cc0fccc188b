"""Pairs of people as a run keeps them: from the votes of a comparison, or from a folder in Pick-a-Pic's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from daybreak.evaluate.subjects import Subject
from daybreak.prefer.ballots import count_votes
from daybreak.prefer.own import pairs_folder
from daybreak.prefer.pairs import write_pairs
from daybreak.prefer.pick_a_pic import PickAPic
from daybreak.prefer.settings import PreferSettings
from daybreak.prefer.votes import voted_pairs


def import_pairs(settings: PreferSettings, run: Path, open_model: Callable[[int], Subject]) -> str | None:
    """Writes the pairs into a run's folder, and RUN/skipped.jsonl with what could not be used. Returns what to say of
    them; None where a judge makes the pairs. ConfigError for too few, and for votes on what the model does not draw.

    open_model: opens what the votes are of, to draw with a seed, to see whether it draws their pictures.
    """
    folder = pairs_folder(run, 0)
    if settings.votes is not None:
        votes, model = Path(settings.votes), Path(settings.run)
        ballots = count_votes(votes, model, settings.question)
        write_pairs(folder, voted_pairs(votes, model, ballots, open_model(ballots.study.seed)))
        return ballots.describe()
    if settings.pairs is None:
        return None
    rows = PickAPic(Path(settings.pairs))
    write_pairs(folder, rows.read())
    if rows.skipped:
        lines = [json.dumps({"path": s.path, "reason": s.reason}, ensure_ascii=False) + "\n" for s in rows.skipped]
        (run / "skipped.jsonl").write_text("".join(lines), encoding="utf-8")
    return rows.describe()
