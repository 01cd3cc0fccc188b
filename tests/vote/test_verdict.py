"""The sentence that a comparison ends in, and the voters that are doubted."""

import itertools

from daybreak.vote.pairs import Pair
from daybreak.vote.results import results_of, voters_of
from daybreak.vote.study import Study
from daybreak.vote.verdict import doubt, verdict, without_doubted
from daybreak.vote.votes import Vote


def study(*names: str, prompts: int = 40) -> Study:
    return Study(names, names, tuple(f"prompt {i}" for i in range(prompts)), ("overall",), 0, None)


def votes(
    wins: str, voter: int = 1, seconds: float = 3.0, first: int = 0, second: int = 1, side: str = ""
) -> list[Vote]:
    """A vote on each prompt: 1 where the contestant `first` won, 0 where `second` did, - for none.

    On both sides in turn, or with the winner always on one `side`.
    """
    found = []
    for item, letter in enumerate(wins):
        pair = Pair(item, first, second) if item % 2 else Pair(item, second, first)
        winner = first if letter == "1" else second
        if side and letter != "-":
            loser = first + second - winner
            pair = Pair(item, winner, loser) if side == "left" else Pair(item, loser, winner)
        choice = "tie" if letter == "-" else "left" if pair.left == winner else "right"
        found.append(Vote(voter, pair, "overall", choice, seconds, "2026-01-01"))
    return found


def said(study: Study, found: list[Vote]) -> str:
    return verdict(study, results_of(study, found)[0])


def test_the_better_one_of_two_is_named_whichever_it_is():
    two = study("a", "b")
    assert said(two, votes("1" * 30 + "0" * 10)) == "a is preferred to b in 75% of 40 votes (95 % interval 60% to 86%)."
    assert said(two, votes("0" * 30 + "1" * 10)) == "b is preferred to a in 75% of 40 votes (95 % interval 60% to 86%)."


def test_votes_that_hold_an_even_half_tell_nothing():
    two = study("a", "b")
    assert said(two, votes("10" * 12 + "0")) == (
        "The votes do not tell a and b apart: b is preferred in 52% of 25 votes (95 % interval 33% to 70%), which "
        "holds an even half."
    )
    assert "do not tell" in said(two, votes("----")) and said(two, []) == "No votes yet."


def test_of_three_the_first_is_named_and_whom_it_does_not_surely_beat():
    three = study("x", "y", "z")
    clear = [v for i, j in itertools.combinations(range(3), 2) for v in votes("1" * 40, first=i, second=j)]
    assert said(three, clear).startswith("x is preferred to the others in 100% of 80 votes (95 % interval ")
    assert said(three, clear).endswith(", and to each of them alone.")
    close = [*votes("1" * 22 + "0" * 18), *votes("1" * 40, first=0, second=2), *votes("1" * 40, first=1, second=2)]
    assert said(three, close).endswith("; against y alone the votes do not tell.")


def test_voters_in_a_hurry_and_of_one_side_are_told_and_left_out_beside():
    two = study("a", "b")
    found = [
        *votes("1" * 30 + "0" * 10, voter=1),
        *votes("0" * 40, voter=2, seconds=0.5),
        *votes("10" * 20, voter=3, side="left"),
        *votes("0" * 4, voter=4, seconds=0.2),  # too few to tell a habit
    ]
    voters = voters_of(found, dict.fromkeys((1, 2, 3, 4, 5), 40))
    assert [doubt(v) for v in voters] == [
        None,
        "in a hurry: 0.5 s a vote is too fast to look at two pictures",
        "always one side: 100% of the choices are the left one",
        None,
        None,
    ]
    (others,) = without_doubted(two, found, voters).values()
    assert others.startswith("Without voters 2 and 3: a is preferred to b in 68% of 44 votes (95 % interval 5")
    assert said(two, found).startswith("b is preferred to a")  # by those who did not look
    assert without_doubted(two, votes("10"), voters_of(votes("10"), {1: 2})) == {}
    assert without_doubted(two, votes("1" * 9, seconds=0.1), voters_of(votes("1" * 9, seconds=0.1), {1: 9})) == {}
