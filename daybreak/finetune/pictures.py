"""The user's pictures, decoded once, with what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.data.changes import Check, as_checks, picture_check
from daybreak.data.inspect.findings import Finding, Report, examine
from daybreak.data.inspect.look import Look, Seen
from daybreak.data.listing import holds_shards
from daybreak.data.pictures import DRAFT, PictureError, decode
from daybreak.data.pixel_file import PixelFile, threaded
from daybreak.data.places import is_remote, join
from daybreak.data.prepare.duplicates import find_duplicates
from daybreak.data.prepare.hashes import colours, phash, thumbnail
from daybreak.data.reading.reasons import summary
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.settings import Lines, Reading
from daybreak.data.reading.sources import make_plan
from daybreak.data.reading.text import captions_in
from daybreak.data.shards.reader import RowError, ShardReader
from daybreak.finetune.families import Family

CUT_SHOWN = 5
"""Cut captions that are shown."""


Choices = tuple[tuple[str, float], ...]
"""Captions of a picture, each with the weight by which it is drawn; the first is the one that is shown."""


@dataclass
class Pictures:
    """Usable pictures: pixels [N, S, S, 3] uint8 with their captions; `look` for the findings; `skipped` the rest.

    captions: one of each picture; choices: all of them, of which training draws. groups: pictures that show the same
    have one number; copies: how many are the same file as another one, and how many the same picture. checks: what
    `look_again` gives while nothing was changed.
    """

    pixels: np.ndarray
    captions: list[str]
    look: Look
    skipped: list[Skipped] = field(default_factory=list)
    choices: list[Choices] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    copies: tuple[int, int] = (0, 0)
    checks: np.ndarray = field(default_factory=lambda: as_checks([]))

    def __len__(self) -> int:
        return len(self.captions)

    def add_word(self, word: str) -> None:
        """Every caption has `word` in it afterwards."""

        def added(text: str) -> str:
            return text if word in text else f"{text}, {word}"

        self.captions = [added(text) for text in self.captions]
        for row, caption in zip(self.look.rows, self.captions, strict=True):
            row.captions["caption"] = caption
        self.choices = [tuple((added(text), weight) for text, weight in of) for of in self.choices]


def list_rows(place: str, lines: Lines) -> tuple[list[Skipped], Iterator[tuple[RawRow, Choices]]]:
    """What is not looked at, and the rows with their captions, of prepared shards or of any source of pictures."""
    if holds_shards(place):
        return [], _rows_of_shards(ShardReader(place), lines)
    reading = Reading(lines=lines)
    source = place if is_remote(place) else str(Path(place).expanduser())
    plan = make_plan([source], reading)
    skipped = [Skipped(join(source, key), why) for key, _, why in plan.left]
    rows = source_rows(plan, reading)
    return skipped, ((row, tuple((text, 1.0) for texts in row.captions.values() for text in texts)) for row in rows)


def _rows_of_shards(reader: ShardReader, lines: Lines) -> Iterator[tuple[RawRow, Choices]]:
    for i in range(len(reader)):
        row = RawRow(reader.name(i))
        choices: Choices = ()
        try:
            row.data = reader.picture_bytes(i)
            read = {name: captions_in(texts, lines) for name, texts in reader.all_captions(i).items()}
            choices = tuple(
                (text, reader.index.captions[name] / len(texts)) for name, texts in read.items() for text in texts
            )
        except RowError as e:
            row.problem = str(e)
        yield row, choices


def open_pictures(
    place: str, side: int, background: tuple[int, int, int], caption: str | None = None, flag: str = "--data",
    lines: Lines = "whole",
) -> Pictures:  # fmt: skip
    """The usable pictures of a place as squares of `side` px; `caption`: of every picture, in place of its own.

    lines: what line breaks in captions mean, see `Reading.lines`. Raises ConfigError, which names `flag`, where none
    is usable.
    """
    try:
        skipped, rows = list_rows(place, lines)
    except ConfigError as e:
        raise ConfigError(f"{flag} {e}") from None
    look = Look(place, is_shards=False, size=side)
    look.dropped = [(s.path, "ignored", s.reason) for s in skipped]
    pixels = PixelFile(side)
    choices: list[Choices] = []
    identities: list[tuple[str, int, bytes]] = []
    checks: list[Check] = []

    def work(entry: tuple[RawRow, Choices]) -> tuple[Check | None, tuple[np.ndarray, int, int, str] | tuple[str, str]]:
        row, own = entry
        data = _content(row, own, caption)
        if isinstance(data, tuple):
            return None, data
        check = _check(data, own, caption)
        try:
            picture = decode(data, background, least=(DRAFT * side, DRAFT * side))
        except PictureError as e:
            return check, ("broken", str(e))
        square = ImageOps.fit(picture.image, (side, side), Image.Resampling.LANCZOS)
        return check, (np.asarray(square), picture.width, picture.height, hashlib.sha256(data).hexdigest())

    for (row, own), (check, result) in threaded(work, rows):
        key = row.place or row.key
        if check is not None:
            checks.append(check)
        if len(result) == 2:
            skipped.append(Skipped(key, result[1]))
            look.dropped.append((key, *result))
            continue
        square, width, height, sha = result
        pixels.add(square)
        choices.append(((caption, 1.0),) if caption else own)
        thumb = thumbnail(Image.fromarray(square))
        identities.append((sha, phash(thumb), colours(thumb)))
        captions = {"caption": choices[-1][0][0]}
        look.rows.append(Seen(key, captions, width, height, f"{side}x{side}", square.nbytes))
    if not choices:
        reasons = summary([(s.path, s.reason) for s in skipped])
        raise ConfigError(f"{flag} {place}: none of its {len(skipped)} items is usable: {reasons}")
    groups, found = list(range(len(choices))), find_duplicates(identities, near=True)
    for copy in found:
        groups[copy.row] = groups[copy.of]
    exact = sum(copy.exact for copy in found)
    captions_shown = [of[0][0] for of in choices]
    copies = exact, len(found) - exact
    return Pictures(pixels.array(), captions_shown, look, skipped, choices, groups, copies, as_checks(checks))


def _content(row: RawRow, own: Choices, caption: str | None) -> bytes | tuple[str, str]:
    """The file of a row that has what is needed; else (kind, problem). `caption`: in place of its own."""
    if row.problem is not None and not (caption and row.kind == "unreadable caption"):
        return row.kind, row.problem
    if not own and not caption:
        return "no caption", "no caption"
    try:
        return row.read()
    except OSError as e:
        return "broken", str(e)


def look_again(place: str, caption: str | None, lines: Lines) -> np.ndarray:
    """The checks (`data/changes.py`) of a place's pictures, which are read and not decoded. Raises ConfigError."""

    def work(entry: tuple[RawRow, Choices]) -> Check | None:
        data = _content(*entry, caption)
        return None if isinstance(data, tuple) else _check(data, entry[1], caption)

    return as_checks(check for _, check in threaded(work, list_rows(place, lines)[1]) if check is not None)


def _check(data: bytes, own: Choices, caption: str | None) -> Check:
    return picture_check(data, [caption] if caption else [text for text, _ in own])


def findings(pictures: Pictures, family: Family) -> Report:
    """What `daybreak inspect` would say of them for fine-tuning; captions are counted with the base's own tokenizer."""
    tokenizer = getattr(family.pipeline, family.tokenizers[0])
    limit = family.max_tokens()
    exact, near = pictures.copies
    report = examine(
        pictures.look, limit, lambda texts: np.array([len(i) for i in tokenizer(texts, truncation=False)["input_ids"]])
    )
    report.findings[:] = [f for f in report.findings if f.level != "note" or "shapes have fewer" not in f.what]
    if exact + near > 0:
        report.findings.append(
            Finding(
                "warning",
                f"{exact + near} pictures are there twice ({exact} the same file, {near} the same picture saved anew)",
                "A copy is learnt twice as hard. Held-out pictures share none with those of training.",
                "Remove them; daybreak prepare leaves them out.",
            )
        )
    several = sum(len(of) > 1 for of in pictures.choices)
    if several:
        most = max(len(of) for of in pictures.choices)
        report.findings.append(
            Finding(
                "note",
                f"{several} pictures have several captions, up to {most}",
                "Each time a picture is seen one of them is drawn by its weight; figures here are of the first.",
                "Nothing.",
            )
        )
    if cut := cut_captions(pictures.captions, tokenizer, limit):
        report.findings.append(
            Finding(
                "warning",
                f"{len(cut)} captions are cut at {limit} tokens",
                "The text encoder does not read what stands beyond its limit; what it loses stands below.",
                "Shorten them, or say the most important first.",
                tuple(f"… {text}" for text in cut[:CUT_SHOWN]),
            )
        )
    return report


def cut_captions(captions: list[str], tokenizer: object, limit: int) -> list[str]:
    """The ends that the text encoder does not read, of those captions that are too long."""
    cut = []
    for caption in dict.fromkeys(captions):
        ids = tokenizer(caption, truncation=False)["input_ids"]  # type: ignore[operator]
        if len(ids) > limit:
            # The last place that is read belongs to the end mark.
            cut.append(tokenizer.decode(ids[limit - 1 : -1]).strip())  # type: ignore[attr-defined]
    return cut
