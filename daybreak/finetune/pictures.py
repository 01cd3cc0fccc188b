"""The user's pictures, decoded once, with what is wrong with them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from daybreak.data.batch import Skipped
from daybreak.data.captioned import Choices, Left, checks_of, list_rows, none_usable, read_captioned
from daybreak.data.changes import Check, as_checks
from daybreak.data.inspect.findings import Finding, Report, examine
from daybreak.data.inspect.look import Look, Seen
from daybreak.data.pictures import DRAFT, decode
from daybreak.data.pixel_file import PixelFile
from daybreak.data.prepare.duplicates import find_duplicates
from daybreak.data.prepare.hashes import colours, phash, thumbnail
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.settings import Lines, Reading
from daybreak.finetune.families import Family

CUT_SHOWN = 5
"""Cut captions that are shown."""


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


def open_pictures(
    place: str, side: int, background: tuple[int, int, int], caption: str | None = None, flag: str = "--data",
    lines: Lines = "whole",
) -> Pictures:  # fmt: skip
    """The usable pictures of a place as squares of `side` px; `caption`: of every picture, in place of its own.

    lines: what line breaks in captions mean, see `Reading.lines`. Raises ConfigError, which names `flag`, where none is
    usable.
    """
    skipped, rows = list_rows(place, Reading(lines=lines), flag)
    look = Look(place, is_shards=False, size=side)
    look.dropped = [(s.path, "ignored", s.reason) for s in skipped]
    pixels = PixelFile(side)
    choices: list[Choices] = []
    identities: list[tuple[str, int, bytes]] = []
    checks: list[Check] = []

    def make(file: bytes, _: RawRow) -> _Made:
        picture = decode(file, background, least=(DRAFT * side, DRAFT * side))
        square = ImageOps.fit(picture.image, (side, side), Image.Resampling.LANCZOS)
        return _Made(np.asarray(square), picture.width, picture.height, hashlib.sha256(file).hexdigest())

    for found in read_captioned(rows, make, caption):
        if found.check is not None:
            checks.append(found.check)
        if isinstance(found, Left):
            skipped.append(Skipped(found.key, found.reason))
            look.dropped.append((found.key, found.kind, found.reason))
            continue
        made = found.made
        pixels.add(made.pixels)
        choices.append(found.choices)
        thumb = thumbnail(Image.fromarray(made.pixels))
        identities.append((made.sha256, phash(thumb), colours(thumb)))
        shown = {"caption": found.choices[0][0]}
        look.rows.append(Seen(found.key, shown, made.width, made.height, f"{side}x{side}", made.pixels.nbytes))
    if not choices:
        raise none_usable(place, skipped, flag)
    groups, copies = list(range(len(choices))), find_duplicates(identities, near=True)
    for copy in copies:
        groups[copy.row] = groups[copy.of]
    exact = sum(copy.exact for copy in copies)
    captions = [of[0][0] for of in choices]
    counts = exact, len(copies) - exact
    return Pictures(pixels.array(), captions, look, skipped, choices, groups, counts, as_checks(checks))


@dataclass(frozen=True)
class _Made:
    pixels: np.ndarray
    width: int
    height: int
    sha256: str


def look_again(place: str, caption: str | None, lines: Lines) -> np.ndarray:
    """The checks (`data/changes.py`) of a place's pictures, which are read and not decoded. Raises ConfigError."""
    return checks_of(list_rows(place, Reading(lines=lines))[1], caption)


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
