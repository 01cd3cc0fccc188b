"""Voters and their votes in SQLite: nothing counted twice, nothing lost.

A vote is acknowledged after its transaction is on disk (WAL, synchronous=FULL), so neither a killed server nor a power
cut takes one back. A page that does not hear back sends the same vote again, under the same submission id, and the
second time changes nothing.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.vote.pairs import Pair

_SCHEMA = """
CREATE TABLE IF NOT EXISTS voters (number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS pairs (
    voter INTEGER NOT NULL REFERENCES voters, position INTEGER NOT NULL,
    item INTEGER NOT NULL, left INTEGER NOT NULL, right INTEGER NOT NULL,
    PRIMARY KEY (voter, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS votes (
    submission TEXT PRIMARY KEY,
    voter INTEGER NOT NULL, position INTEGER NOT NULL, question TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie')),
    seconds REAL, cast_at TEXT NOT NULL, withdrawn_at TEXT,
    FOREIGN KEY (voter, position) REFERENCES pairs
);
CREATE UNIQUE INDEX IF NOT EXISTS one_vote ON votes (voter, position, question) WHERE withdrawn_at IS NULL;
"""


@dataclass(frozen=True)
class Voter:
    """A voter and the token in the voter's link."""

    number: int
    token: str


@dataclass(frozen=True)
class Vote:
    """A vote as it counts: who stood where, and which side was chosen (`left`, `right` or `tie`)."""

    voter: int
    pair: Pair
    question: str
    choice: str
    seconds: float | None
    cast_at: str


@dataclass(frozen=True)
class Standing:
    """How far a voter is: votes that count, and the submission id of the last of them."""

    done: int
    last: str | None


class Votes:
    """The votes of a study. Threads may share it; so may processes, each with its own."""

    def __init__(self, path: Path, questions: tuple[str, ...]) -> None:
        self._questions = questions
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as e:
            raise ConfigError(f"{path} cannot be opened as a database of votes: {e}") from None

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def add_voter(self, number: int, pairs: list[Pair]) -> None:
        """A voter with a new secret token and what they will see; nothing where the number is taken already."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM voters WHERE number = ?", (number,)).fetchone():
                return
            db.execute("INSERT INTO voters VALUES (?, ?)", (number, secrets.token_urlsafe(12)))
            rows = [(number, i, p.item, p.left, p.right) for i, p in enumerate(pairs)]
            db.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?, ?)", rows)

    def voters(self) -> list[Voter]:
        """All voters, by number."""
        with self._lock:
            return [Voter(*row) for row in self._db.execute("SELECT number, token FROM voters ORDER BY number")]

    def pairs(self, voter: int) -> list[Pair]:
        """What the voter sees, in order."""
        query = "SELECT item, left, right FROM pairs WHERE voter = ? ORDER BY position"
        with self._lock:
            return [Pair(*row) for row in self._db.execute(query, (voter,))]

    def standing(self, voter: int) -> Standing:
        """How far the voter is."""
        with self._lock:
            return self._standing(voter)

    def _standing(self, voter: int) -> Standing:
        query = (
            "SELECT submission FROM votes WHERE voter = ? AND withdrawn_at IS NULL ORDER BY position DESC, rowid DESC"
        )
        rows = self._db.execute(query, (voter,)).fetchall()
        return Standing(len(rows), rows[0][0] if rows else None)

    def cast(self, voter: int, step: int, choice: str, submission: str, seconds: float | None) -> bool:
        """Counts a vote on a step, if that is the one the voter is at; returns whether this submission was counted.

        Steps number a voter's questions: pair 0 with each question in turn, then pair 1. A submission that was counted
        before is not counted again, also after it was withdrawn; one for another step (a second tab, a double click)
        changes nothing.
        """
        position, question = divmod(step, len(self._questions))
        with self._transaction() as db:
            known = db.execute("SELECT voter, withdrawn_at FROM votes WHERE submission = ?", (submission,)).fetchone()
            if known is not None:
                return bool(known[0] == voter and known[1] is None)
            total = db.execute("SELECT COUNT(*) FROM pairs WHERE voter = ?", (voter,)).fetchone()[0]
            if step != self._standing(voter).done or not 0 <= position < total:
                return False
            row = (submission, voter, position, self._questions[question], choice, seconds, _now())
            db.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", row)
            return True

    def withdraw(self, voter: int, submission: str) -> bool:
        """Takes the voter's last vote back, if it is this one; returns whether it was. The row stays, marked."""
        with self._transaction() as db:
            if self._standing(voter).last != submission:
                return False
            db.execute("UPDATE votes SET withdrawn_at = ? WHERE submission = ?", (_now(), submission))
            return True

    def all(self) -> list[Vote]:
        """Every vote that counts, by voter and in the order seen."""
        query = (
            "SELECT v.voter, p.item, p.left, p.right, v.question, v.choice, v.seconds, v.cast_at "
            "FROM votes v JOIN pairs p USING (voter, position) "
            "WHERE v.withdrawn_at IS NULL ORDER BY v.voter, v.position, v.rowid"
        )
        with self._lock:
            rows = self._db.execute(query).fetchall()
        return [Vote(row[0], Pair(*row[1:4]), *row[4:]) for row in rows]

    def close(self) -> None:
        """Closes the database."""
        self._db.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
