"""The votes of a blind comparison, counted for one model. Needs no torch: a mistake is told at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.vote import study as studies
from daybreak.vote.contestants import OTHER_NOISE
from daybreak.vote.study import Study
from daybreak.vote.votes import Vote, Votes

LEAST = 8
"""Of fewer pairs nothing is learnt but these pairs."""


@dataclass(frozen=True)
class Ballots:
    """scores: by (prompt, one contestant, another), of which one is the model's: votes for the first less those for the
    second. votes: how many these are; others: votes on pictures of other models alone, which say nothing of this one.
    """

    study: Study
    scores: dict[tuple[int, int, int], int]
    votes: int
    others: int

    @property
    def ties(self) -> int:
        """Pairs with as many votes for one as for the other, or that voters saw none better of."""
        return sum(score == 0 for score in self.scores.values())

    def describe(self) -> str:
        """One line for the log."""
        others = f", {self.others} votes on other models' pictures left out" if self.others else ""
        decided = len(self.scores) - self.ties
        return f"{decided} pairs of {self.votes} votes; {self.ties} ties left out{others}"


def count_votes(folder: Path, run: Path, question: str) -> Ballots:
    """What people prefer of a model's pictures.

    ConfigError where the folder is no comparison or one of other models, did not ask the question, or has too few
    votes.
    """
    study = studies.load(folder)
    if question not in study.questions:
        raise ConfigError(
            f"--question {question}: {folder} asked for {' and '.join(study.questions)}; give --question "
            f"{study.questions[0]}"
        )
    own = contestants_of_run(study, run)
    if not own:
        raise ConfigError(
            f"--votes {folder}: it compares {' and '.join(study.paths)}, and not {run.resolve()}; votes on other "
            "models' pictures say nothing of this one"
        )
    scores: dict[tuple[int, int, int], int] = defaultdict(int)
    counted = others = 0
    for vote in _read(folder, study):
        left, right = vote.pair.left, vote.pair.right
        if vote.question != question:
            continue
        if not {left, right} & own.keys():
            others += 1
            continue
        counted += 1
        for_left = {"left": 1, "right": -1, "tie": 0}[vote.choice]
        first, second = sorted((left, right))
        scores[vote.pair.item, first, second] += for_left if left == first else -for_left
    ballots = Ballots(study, dict(scores), counted, others)
    if (decided := len(scores) - ballots.ties) < LEAST:
        raise ConfigError(
            f"--votes {folder}: of {counted} votes on {question} {decided} pairs have a winner; at least {LEAST} are "
            "needed"
        )
    return ballots


def contestants_of_run(study: Study, run: Path) -> dict[int, bool]:
    """Which contestants are the run by itself, without adapters; True: from other noise."""
    where = str(run.resolve())
    return {k: path != where for k, path in enumerate(study.paths) if path in (where, f"{where} + {OTHER_NOISE}")}


def _read(folder: Path, study: Study) -> list[Vote]:
    if not (folder / "votes.sqlite").is_file():
        raise ConfigError(f"--votes {folder} holds no votes yet")
    book = Votes(folder / "votes.sqlite", study.questions)
    try:
        return book.all()
    finally:
        book.close()
