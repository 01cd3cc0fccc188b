"""Votes through double submission, undo, threads and a killed process; order and sides."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.config import ConfigError
from daybreak.vote.pairs import Pair, pairs_of_study, schedule
from daybreak.vote.votes import Votes

QUESTIONS = ("overall", "prompt")


@pytest.fixture
def votes(tmp_path):
    book = Votes(tmp_path / "votes.sqlite", QUESTIONS)
    book.add_voter(1, [Pair(0, 0, 1), Pair(1, 1, 0)])
    book.add_voter(2, [Pair(1, 0, 1), Pair(0, 1, 0)])
    yield book
    book.close()


def test_votes_count_in_order_and_carry_what_was_shown(votes):
    assert votes.cast(1, 0, "left", "aaaaaaaa", 1.5)
    assert votes.cast(1, 1, "tie", "bbbbbbbb", None)
    assert votes.cast(1, 2, "right", "cccccccc", 2.0)
    assert [(v.pair, v.question, v.choice, v.seconds) for v in votes.all()] == [
        (Pair(0, 0, 1), "overall", "left", 1.5),
        (Pair(0, 0, 1), "prompt", "tie", None),
        (Pair(1, 1, 0), "overall", "right", 2.0),
    ]
    assert votes.standing(1).done == 3
    assert votes.standing(2).done == 0


def test_the_same_submission_counts_once(votes):
    assert votes.cast(1, 0, "left", "aaaaaaaa", 1)
    assert votes.cast(1, 0, "left", "aaaaaaaa", 1)
    assert votes.standing(1).done == 1


def test_a_vote_for_another_step_changes_nothing(votes):
    votes.cast(1, 0, "left", "aaaaaaaa", 1)
    assert not votes.cast(1, 0, "right", "bbbbbbbb", 1)  # a second tab, still at the first step
    assert not votes.cast(1, 3, "right", "cccccccc", 1)
    assert [v.choice for v in votes.all()] == ["left"]


def test_undo_takes_the_last_vote_back_once(votes):
    votes.cast(1, 0, "left", "aaaaaaaa", 1)
    votes.cast(1, 1, "left", "bbbbbbbb", 1)
    assert not votes.withdraw(1, "aaaaaaaa")  # not the last
    assert not votes.withdraw(2, "bbbbbbbb")  # not this voter's
    assert votes.withdraw(1, "bbbbbbbb")
    assert not votes.withdraw(1, "bbbbbbbb")  # sent twice
    assert votes.standing(1).done == 1
    assert not votes.cast(1, 1, "left", "bbbbbbbb", 1)  # a late retry does not bring it back
    assert votes.cast(1, 1, "right", "dddddddd", 1)
    assert [v.choice for v in votes.all()] == ["left", "right"]


def test_the_end_is_the_end(votes):
    for step in range(4):
        assert votes.cast(1, step, "tie", f"submission-{step}", 1)
    assert not votes.cast(1, 4, "tie", "submission-4", 1)


def test_many_threads_count_a_step_once(votes):
    start = threading.Barrier(8)

    def submit(n):
        start.wait()
        votes.cast(1, 0, "left", f"submission-{n % 4}", 1)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(votes.all()) == 1


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.just("cast"), st.integers(0, 5), st.sampled_from(["left", "right", "tie"]), st.integers(0, 9)),
            st.tuples(st.just("undo"), st.integers(0, 9)),
        ),
        max_size=25,
    )
)
def test_whatever_is_sent_votes_are_a_prefix_without_repeats(tmp_path_factory, actions):
    book = Votes(tmp_path_factory.mktemp("votes") / "votes.sqlite", QUESTIONS)
    book.add_voter(1, [Pair(0, 0, 1), Pair(1, 1, 0)])
    spent = set()
    for action in actions:
        before = [(v.pair.item, v.question, v.choice) for v in book.all()]
        if action[0] == "cast":
            _, step, choice, n = action
            fresh = n not in spent and step == len(before) < 4
            book.cast(1, step, choice, f"submission-{n}", 1)
            if fresh:
                spent.add(n)
                before.append((step // 2, QUESTIONS[step % 2], choice))
            assert [(v.pair.item, v.question, v.choice) for v in book.all()] == before
        else:
            last = book.standing(1).last
            book.withdraw(1, f"submission-{action[1]}")
            gone = last == f"submission-{action[1]}"
            assert [(v.pair.item, v.question, v.choice) for v in book.all()] == (before[:-1] if gone else before)
    book.close()


WRITER = """
import sys
from pathlib import Path
from daybreak.vote.pairs import Pair
from daybreak.vote.votes import Votes
book = Votes(Path(sys.argv[1]), ("overall",))
book.add_voter(1, [Pair(i, 0, 1) for i in range(100_000)])
for step in range(100_000):
    book.cast(1, step, "left", f"submission-{step}", 1)
    print(step, flush=True)
"""


def test_every_acknowledged_vote_survives_a_kill(tmp_path):
    path = tmp_path / "votes.sqlite"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, env=environment)
    for line in writer.stdout:
        if int(line) >= 50:
            writer.send_signal(signal.SIGKILL)
            break
    acknowledged = max([50, *(int(line) for line in writer.stdout if line.endswith("\n"))]) + 1
    writer.wait()
    writer.stdout.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    book = Votes(path, ("overall",))
    assert acknowledged <= book.standing(1).done <= acknowledged + 1
    book.close()


def test_a_voter_keeps_token_and_order(votes):
    before = votes.voters()
    votes.add_voter(1, [Pair(0, 1, 0)])
    assert votes.voters() == before
    assert len(votes.pairs(1)) == 2
    assert len({v.token for v in before}) == 2


def test_another_file_is_refused(tmp_path):
    (tmp_path / "votes.sqlite").write_bytes(b"not a database, and longer than a header of one hundred bytes" * 4)
    with pytest.raises(ConfigError, match=r"votes\.sqlite cannot be opened as a database"):
        Votes(tmp_path / "votes.sqlite", QUESTIONS)


def test_order_and_side_depend_on_seed_and_voter_alone():
    pairs = pairs_of_study(20, 3, None, seed=5)
    assert len(pairs) == 60
    first = schedule(pairs, 5, 1)
    assert schedule(pairs, 5, 1) == first
    for other in (schedule(pairs, 5, 2), schedule(pairs, 6, 1)):
        assert other != first
        assert [p.item for p in other] != [p.item for p in first]
    asked = Counter((p.item, *sorted((p.left, p.right))) for p in first)
    assert set(asked.values()) == {1}
    assert len(asked) == 60


@given(items=st.integers(1, 30), contestants=st.integers(2, 4), seed=st.integers(0, 9), voter=st.integers(1, 5))
@settings(max_examples=50)
def test_each_stands_on_the_left_half_of_the_time(items, contestants, seed, voter):
    for (a, b), n in Counter((p.left, p.right) for p in pairs_of_study(items, contestants, None, seed)).items():
        shown = schedule(pairs_of_study(items, contestants, None, seed), seed, voter)
        lefts = sum((p.left, p.right) == (a, b) for p in shown)
        assert abs(lefts - (n - lefts)) <= 1


def test_sides_do_not_follow_the_order():
    """Over many voters, the first picture shown is on either side about equally often."""
    pairs = pairs_of_study(10, 2, None, 0)
    swapped = sum(schedule(pairs, 0, voter)[0].left for voter in range(400))
    assert 150 < swapped < 250


def test_a_limit_spreads_over_contestants_and_prompts():
    pairs = pairs_of_study(10, 3, 7, seed=0)
    assert len(pairs) == len({p.item for p in pairs}) == 7
    couples = Counter((p.left, p.right) for p in pairs)
    assert max(couples.values()) - min(couples.values()) <= 1
    assert len(pairs_of_study(2, 3, 100, seed=0)) == 6
