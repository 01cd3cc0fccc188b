"""What the votes say: one `QuestionResults` for each question, as tables and CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from daybreak.vote import statistics
from daybreak.vote.statistics import Rate, Scores
from daybreak.vote.study import Study
from daybreak.vote.votes import Vote


@dataclass(frozen=True)
class Duel:
    """Two contestants against each other: `rate` is the first one's share of wins, a tie counting half."""

    first: int
    second: int
    wins: int
    ties: int
    losses: int
    rate: Rate


@dataclass(frozen=True)
class Agreement:
    """How far voters agree on what several of them judged.

    `cohen` holds (voter, voter, things both judged, Cohen's kappa). NaN where there is nothing to go by.
    """

    things: int
    observed: float
    fleiss: float
    cohen: list[tuple[int, int, int, float]]


@dataclass(frozen=True)
class VoterSummary:
    """A voter's habits: a share of lefts far from 1/2, or a second a vote, speaks of inattention."""

    voter: int
    votes: int
    expected: int
    ties: float
    left: Rate
    median_seconds: float


@dataclass(frozen=True)
class QuestionResults:
    """All figures of one question. `totals[k]` is contestant k's win rate against all others."""

    question: str
    votes: int
    duels: list[Duel]
    totals: list[Rate]
    scores: Scores
    agreement: Agreement


def results_of(study: Study, votes: list[Vote]) -> list[QuestionResults]:
    """The figures of every question, in the study's order."""
    return [_question(study, q, [v for v in votes if v.question == q]) for q in study.questions]


def _question(study: Study, question: str, votes: list[Vote]) -> QuestionResults:
    n = len(study.contestants)
    duels, totals = [], []
    for i, j in combinations(range(n), 2):
        between = [v for v in votes if {v.pair.left, v.pair.right} == {i, j}]
        won = [outcome(v, i) for v in between]
        duels.append(Duel(i, j, won.count(1.0), won.count(0.5), won.count(0.0), _rate(between, won)))
    for k in range(n):
        involved = [v for v in votes if k in (v.pair.left, v.pair.right)]
        totals.append(_rate(involved, [outcome(v, k) for v in involved]))
    return QuestionResults(
        question, len(votes), duels, totals, statistics.bradley_terry(_wins(study, votes)), _agreement(votes)
    )


def outcome(vote: Vote, contestant: int) -> float:
    """1 where the contestant won, 0.5 in a tie, 0 where it lost."""
    if vote.choice == "tie":
        return 0.5
    return float((vote.pair.left if vote.choice == "left" else vote.pair.right) == contestant)


def _rate(votes: list[Vote], won: list[float]) -> Rate:
    return statistics.win_rate(np.array(won, dtype=float), np.array([v.pair.item for v in votes], dtype=int))


def _wins(study: Study, votes: list[Vote]) -> np.ndarray:
    """[prompts with votes, K, K]: how often the row beat the column; a tie is half a win for both."""
    items = {item: row for row, item in enumerate(sorted({v.pair.item for v in votes}))}
    wins = np.zeros((len(items), len(study.contestants), len(study.contestants)))
    for v in votes:
        wins[items[v.pair.item], v.pair.left, v.pair.right] += outcome(v, v.pair.left)
        wins[items[v.pair.item], v.pair.right, v.pair.left] += outcome(v, v.pair.right)
    return wins


def _agreement(votes: list[Vote]) -> Agreement:
    """Answers are compared as 'the first contestant', 'tie', 'the second', so that sides play no part."""
    answers: dict[tuple[int, int, int], dict[int, int]] = {}
    for v in votes:
        first, second = sorted((v.pair.left, v.pair.right))
        answers.setdefault((v.pair.item, first, second), {})[v.voter] = round(2 * outcome(v, first))
    counts = np.array([np.bincount(list(a.values()), minlength=3) for a in answers.values()]).reshape(-1, 3)
    cohen = []
    for a, b in combinations(sorted({v.voter for v in votes}), 2):
        both = [(x[a], x[b]) for x in answers.values() if a in x and b in x]
        if both:
            first_voter, second_voter = np.array(both).T
            cohen.append((a, b, len(both), statistics.cohen_kappa(first_voter, second_voter)))
    return Agreement(
        int((counts.sum(1) >= 2).sum()),
        statistics.observed_agreement(counts),
        statistics.fleiss_kappa(counts),
        cohen,
    )


def voters_of(votes: list[Vote], expected: dict[int, int]) -> list[VoterSummary]:
    """One summary a voter, over all questions; `expected` says how many votes each was asked for."""
    summaries = []
    for voter, asked in expected.items():
        own = [v for v in votes if v.voter == voter]
        decided = [v for v in own if v.choice != "tie"]
        left = statistics.win_rate(
            np.array([float(v.choice == "left") for v in decided]), np.array([v.pair.item for v in decided], dtype=int)
        )
        seconds = [v.seconds for v in own if v.seconds is not None]
        ties = 1 - len(decided) / len(own) if own else math.nan
        median = float(np.median(seconds)) if seconds else math.nan
        summaries.append(VoterSummary(voter, len(own), asked, ties, left, median))
    return summaries


def write_csv(folder: Path, study: Study, votes: list[Vote], results: list[QuestionResults]) -> tuple[Path, Path]:
    """Writes votes.csv (a vote a row) and results.csv (a figure a row); returns both paths."""
    names = study.contestants
    rows: list[list[Any]] = [
        ["voter", "prompt_number", "prompt", "question", "left", "right", "choice", "winner", "seconds", "cast_at"]
    ]
    for v in votes:
        left, right = names[v.pair.left], names[v.pair.right]
        winner = {"left": left, "right": right, "tie": ""}[v.choice]
        prompt = study.prompts[v.pair.item]
        rows.append([v.voter, v.pair.item, prompt, v.question, left, right, v.choice, winner, v.seconds, v.cast_at])
    figures: list[list[Any]] = [
        ["question", "figure", "of", "against", "value", "low", "high", "votes", "wins", "ties", "losses"]
    ]
    for r in results:
        for d in r.duels:
            figures.append([
                r.question, "win_rate", names[d.first], names[d.second], d.rate.rate, d.rate.low, d.rate.high,
                d.rate.n, d.wins, d.ties, d.losses,
            ])  # fmt: skip
        for k, name in enumerate(names):
            t, s = r.totals[k], r.scores
            figures.append([r.question, "win_rate", name, "all others", t.rate, t.low, t.high, t.n, "", "", ""])
            figures.append([
                r.question, "bradley_terry", name, "", s.score[k], s.low[k], s.high[k], t.n, "", "", "",
            ])  # fmt: skip
        a = r.agreement
        figures.append([r.question, "observed_agreement", "all voters", "", a.observed, "", "", r.votes, "", "", ""])
        figures.append([r.question, "fleiss_kappa", "all voters", "", a.fleiss, "", "", r.votes, "", "", ""])
        for x, y, n, kappa in a.cohen:
            figures.append([r.question, "cohen_kappa", f"voter {x}", f"voter {y}", kappa, "", "", n, "", "", ""])
    paths = folder / "votes.csv", folder / "results.csv"
    for path, table in zip(paths, (rows, figures), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["" if _is_nan(cell) else cell for cell in row] for row in table])
    return paths


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
