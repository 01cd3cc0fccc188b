"""Captioned pictures of a place, each read and decoded once: what training on a folder and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.data.changes import Check, as_checks, picture_check
from daybreak.data.listing import holds_shards, plan_of
from daybreak.data.pictures import PictureError
from daybreak.data.pixel_file import threaded
from daybreak.data.places import is_remote, join
from daybreak.data.reading.reasons import summary
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.text import captions_in
from daybreak.data.shards.reader import RowError, ShardReader

T = TypeVar("T")
Choices = tuple[tuple[str, float], ...]
"""Captions of a picture, each with the weight by which it is drawn; the first is the one that is shown."""


@dataclass(frozen=True)
class Listed:
    """A row of a place, not decoded yet, with its captions.

    original: width and height that the picture had before it was stored, px, where that is known to be another size.
    """

    row: RawRow
    choices: Choices
    original: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """Its file, where it is one; else what the source calls it."""
        return self.row.place or self.row.key


@dataclass(frozen=True)
class Usable(Generic[T]):
    """A picture that can be used. check: of its file and captions (`changes.py`); made: what was made of the file."""

    key: str
    choices: Choices
    check: Check
    made: T


@dataclass(frozen=True)
class Left:
    """A row that cannot be used: its kind, as `daybreak prepare` calls it, and the reason in words.

    check: of one that was read and could not be decoded.
    """

    key: str
    kind: str
    reason: str
    check: Check | None = None


class UnfitError(PictureError):
    """The picture can be read and not be used; kind: as `daybreak prepare` calls it."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def list_rows(place: str, reading: Reading, flag: str = "--data") -> tuple[list[Skipped], Iterator[Listed]]:
    """What of a place is not looked at, and its rows with their captions: of prepared shards or of any source.

    Raises ConfigError, which names `flag`, where there is nothing; and after the last row, where no row had a column
    of captions that `reading` asks for.
    """
    if holds_shards(place):
        reader = ShardReader(place)
        for name in reading.captions:
            if name not in reader.index.captions:
                known = ", ".join(reader.index.captions)
                raise ConfigError(f"--caption {name}: {place} has no such captions; there are {known}")
        return [], _asked_for(_rows_of_shards(reader, reading), reading)
    source = place if is_remote(place) else str(Path(place).expanduser())
    plan = plan_of(source, reading, flag)
    skipped = [Skipped(join(source, key), why) for key, _, why in plan.left]
    weights = reading.caption_columns
    rows = (Listed(row, _weighed(row.captions, weights)) for row in source_rows(plan, reading))
    return skipped, _asked_for(rows, reading)


def _weighed(captions: dict[str, list[str]], weights: dict[str, float]) -> Choices:
    """The captions of a row: a column's weight is shared by its texts."""
    return tuple((t, weights.get(name, 1.0) / len(texts)) for name, texts in captions.items() for t in texts)


def _asked_for(rows: Iterable[Listed], reading: Reading) -> Iterator[Listed]:
    """The rows; ConfigError at their end where a column of captions that was asked for held nothing."""
    missing = dict.fromkeys(reading.captions)
    for listed in rows:
        for name in [n for n in missing if listed.row.captions.get(n)]:
            del missing[name]
        yield listed
    if missing:
        known = [name for name in reading.captions if name not in missing]
        has = f"; there are {', '.join(known)}" if known else ""
        raise ConfigError(f"--caption {next(iter(missing))}: no picture has such a caption{has}")


def _rows_of_shards(reader: ShardReader, reading: Reading) -> Iterator[Listed]:
    weights = reading.captions or reader.index.captions
    for i in range(len(reader)):
        row = RawRow(reader.name(i))
        original = None
        try:
            row.data = reader.picture_bytes(i)
            read = {name: captions_in(texts, reading.lines) for name, texts in reader.all_captions(i).items()}
            row.captions = {name: texts for name, texts in read.items() if name in weights}
            original = reader.original_size(i)
        except RowError as e:
            row.problem = str(e)
        yield Listed(row, _weighed(row.captions, weights), original)


def read_captioned(
    rows: Iterable[Listed], make: Callable[[bytes, Listed], T], caption: str | None = None
) -> Iterator[Usable[T] | Left]:
    """Each row in its order, with what `make` made of its file in one of several threads; or why it can't be used.

    caption: of every picture, in place of its own. `make` raises PictureError for what cannot be used.
    """

    def work(listed: Listed) -> Usable[T] | Left:
        choices = ((caption, 1.0),) if caption else listed.choices
        file = _content(listed, choices)
        if isinstance(file, Left):
            return file
        check = picture_check(file, [text for text, _ in choices])
        try:
            return Usable(listed.key, choices, check, make(file, listed))
        except PictureError as e:
            return Left(listed.key, e.kind if isinstance(e, UnfitError) else "broken", str(e), check)

    return (found for _, found in threaded(work, rows))


def checks_of(rows: Iterable[Listed], caption: str | None = None) -> np.ndarray:
    """The checks [N, 2] of the rows that have a caption; they are read and not decoded."""

    def work(listed: Listed) -> Check | None:
        choices = ((caption, 1.0),) if caption else listed.choices
        file = _content(listed, choices)
        return None if isinstance(file, Left) else picture_check(file, [text for text, _ in choices])

    return as_checks(check for _, check in threaded(work, rows) if check is not None)


def _content(listed: Listed, choices: Choices) -> bytes | Left:
    """The file of a row that has what is needed. Of one with a caption from elsewhere its own may be unreadable."""
    row = listed.row
    if row.problem is not None and not (choices != listed.choices and row.kind == "unreadable caption"):
        return Left(listed.key, row.kind, row.problem)
    if not choices:
        return Left(listed.key, "no caption", "no caption")
    try:
        return row.read()
    except OSError as e:
        return Left(listed.key, "broken", str(e))


def none_usable(place: str, skipped: list[Skipped], flag: str = "--data") -> ConfigError:
    """What is raised where not one picture can be used."""
    reasons = summary([(s.path, s.reason) for s in skipped])
    return ConfigError(f"{flag} {place}: none of its {len(skipped)} items is usable: {reasons}")
