"""What a blind comparison found, in one sentence a question, and which voters to look at before believing it."""

from __future__ import annotations

import math

from daybreak.vote.results import Duel, QuestionResults, VoterSummary, results_of
from daybreak.vote.statistics import Rate
from daybreak.vote.study import Study
from daybreak.vote.votes import Vote

HURRIED_SECONDS = 0.75
"""Two pictures and a prompt take longer to look at: who votes faster in the median did not."""
LEAST_VOTES = 5
"""Of fewer votes no habit is told."""
ONE_SIDED = 0.75
"""A voter whose share of lefts (or of rights) is above this with 95 % confidence did not choose by the pictures."""


def verdict(study: Study, results: QuestionResults) -> str:
    """Who is preferred, with the share and its 95 % interval; or that the votes do not tell."""
    names, r = study.contestants, results
    if not r.votes:
        return "No votes yet."
    if len(names) == 2:
        (duel,) = r.duels
        return _between_two(study, duel)
    first = max((k for k in range(len(names)) if r.totals[k].n), key=lambda k: r.scores.score[k])
    said = f"{names[first]} is preferred to the others in {_share(r.totals[first])}"
    open_ = [names[j] for j in range(len(names)) if j != first and not _wins(r, first, j)]
    if not open_:
        return f"{said}, and to each of them alone."
    return f"{said}; against {_listed(open_)} alone the votes do not tell."


def _between_two(study: Study, duel: Duel) -> str:
    rate, names = duel.rate, study.contestants
    a, b = names[duel.first], names[duel.second]
    if rate.rate < 0.5:
        rate, a, b = _turned(rate), b, a
    if rate.low > 0.5:
        return f"{a} is preferred to {b} in {_share(rate)}."
    apart = f"The votes do not tell {_listed(list(names))} apart"
    return f"{apart}: {a} is preferred in {_share(rate)}, which holds an even half."


def _wins(r: QuestionResults, k: int, other: int) -> bool:
    duel = next(d for d in r.duels if {d.first, d.second} == {k, other})
    return duel.rate.low > 0.5 if duel.first == k else duel.rate.high < 0.5


def _turned(rate: Rate) -> Rate:
    """The share of the other one."""
    return Rate(1 - rate.rate, 1 - rate.high, 1 - rate.low, rate.n, rate.effective)


def _share(rate: Rate) -> str:
    return f"{rate.rate:.0%} of {rate.n} votes (95 % interval {rate.low:.0%} to {rate.high:.0%})"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def doubt(voter: VoterSummary) -> str | None:
    """Why a voter's votes may not be worth much; None where nothing speaks against them."""
    if voter.votes < LEAST_VOTES:
        return None
    if not math.isnan(voter.median_seconds) and voter.median_seconds < HURRIED_SECONDS:
        return f"in a hurry: {voter.median_seconds:.1f} s a vote is too fast to look at two pictures"
    if voter.left.n and (voter.left.low > ONE_SIDED or voter.left.high < 1 - ONE_SIDED):
        return f"always one side: {voter.left.rate:.0%} of the choices are the left one"
    return None


def without_doubted(study: Study, votes: list[Vote], voters: list[VoterSummary]) -> dict[str, str]:
    """{question: verdict} of the votes of all other voters; empty where none is doubted, or all are."""
    doubted = {v.voter for v in voters if doubt(v)}
    others = [v for v in votes if v.voter not in doubted]
    if not doubted or not others:
        return {}
    named = f"{'voter' if len(doubted) == 1 else 'voters'} {_listed([str(v) for v in sorted(doubted)])}"
    return {r.question: f"Without {named}: {verdict(study, r)}" for r in results_of(study, others) if r.votes}
