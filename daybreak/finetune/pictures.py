"""The user's pictures, decoded once, each in its shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from daybreak.data.batch import Skipped
from daybreak.data.captioned import Choices, Left, Listed, UnfitError, checks_of, list_rows, none_usable, read_captioned
from daybreak.data.changes import Check, as_checks
from daybreak.data.inspect.look import Look, Seen
from daybreak.data.pictures import DRAFT, decode
from daybreak.data.pixel_file import PixelFile
from daybreak.data.prepare.duplicates import find_duplicates
from daybreak.data.prepare.hashes import colours, phash, thumbnail
from daybreak.data.reading.settings import Reading
from daybreak.data.shards.buckets import Bucket
from daybreak.finetune.masks import ALPHA, BESIDE, Masks, is_mask
from daybreak.finetune.shapes import Shapes, Sizes, framed, sizes_of


@dataclass
class Pictures:
    """Usable pictures: each [H, W, 3] uint8, with their captions; `look` for the findings; `skipped` the rest.

    shapes, sizes: of each, its width and height, and what it was cut out of (`shapes.py`). captions: one of each;
    choices: all of them, of which training draws. groups: pictures that show the same have one number; copies: how many
    are the same file as another one, and how many the same picture. masks: of each [H, W] uint8, where masks were asked
    for; masked: how many have one of their own. checks: what `look_again` gives while nothing was changed.
    """

    pixels: PixelFile
    shapes: list[Bucket]
    sizes: list[Sizes]
    captions: list[str]
    look: Look
    skipped: list[Skipped] = field(default_factory=list)
    choices: list[Choices] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    copies: tuple[int, int] = (0, 0)
    masks: PixelFile = field(default_factory=PixelFile)
    masked: int = 0
    checks: np.ndarray = field(default_factory=lambda: as_checks([]))

    def __len__(self) -> int:
        return len(self.captions)

    def reword(self, change: Callable[[str], str]) -> None:
        """Every caption becomes what `change` makes of it."""
        self.captions = [change(text) for text in self.captions]
        for row, caption in zip(self.look.rows, self.captions, strict=True):
            row.captions["caption"] = caption
        self.choices = [tuple((change(text), weight) for text, weight in of) for of in self.choices]


def open_pictures(
    place: str, shapes: Shapes, background: tuple[int, int, int], caption: str | None = None, flag: str = "--data",
    reading: Reading | None = None, masks: Masks | None = None,
) -> Pictures:  # fmt: skip
    """The usable pictures of a place in their shapes; `caption`: of every picture, in place of its own.

    reading: how captions are read. Masks of other pictures that lie beside them are no pictures. Raises ConfigError,
    which names `flag`, where none is usable, or `masks` has none for any.
    """
    skipped, rows = list_rows(place, reading or Reading(), flag)
    look = Look(place, is_shards=False, size=shapes.side)
    look.dropped = [(s.path, "ignored", s.reason) for s in skipped]
    result = Pictures(PixelFile(), [], [], [], look, skipped)
    identities: list[tuple[str, int, bytes]] = []
    checks: list[Check] = []
    own = pictures_alone(rows, look.dropped, skipped, masks)
    for found in read_captioned(own, lambda file, listed: _make(file, listed, shapes, background, masks), caption):
        if found.check is not None:
            checks.append(found.check)
        if isinstance(found, Left):
            skipped.append(Skipped(found.key, found.reason))
            look.dropped.append((found.key, found.kind, found.reason))
            continue
        made = found.made
        height, width = made.pixels.shape[:2]
        result.pixels.add(made.pixels)
        if masks is not None:
            result.masks.add(np.full((height, width), 255, np.uint8) if made.mask is None else made.mask)
            result.masked += made.mask is not None
        result.shapes.append((width, height))
        result.sizes.append(made.sizes)
        result.choices.append(found.choices)
        result.captions.append(found.choices[0][0])
        thumb = thumbnail(Image.fromarray(made.pixels))
        identities.append((made.sha256, phash(thumb), colours(thumb)))
        shown = {"caption": found.choices[0][0]}
        look.rows.append(Seen(found.key, shown, *made.stored, f"{width}x{height}", made.pixels.nbytes))
    if not result.captions:
        raise none_usable(place, skipped, flag)
    if masks is not None:
        for mask in masks.unused():
            skipped.append(mask)
            look.dropped.append((mask.path, "ignored", mask.reason))
    result.groups, copies = list(range(len(result))), find_duplicates(identities, near=True)
    for copy in copies:
        result.groups[copy.row] = result.groups[copy.of]
    exact = sum(copy.exact for copy in copies)
    result.copies, result.checks = (exact, len(copies) - exact), as_checks(checks)
    return result


@dataclass(frozen=True)
class _Made:
    """stored: width and height of the decoded picture, px."""

    pixels: np.ndarray
    stored: tuple[int, int]
    sizes: Sizes
    sha256: str
    mask: np.ndarray | None


def pictures_alone(
    rows: Iterable[Listed], dropped: list[tuple[str, str, str]], skipped: list[Skipped], masks: Masks | None
) -> Iterator[Listed]:
    """The rows without those that are masks of others, which are told of where they are not used."""
    for listed in rows:
        if not is_mask(listed):
            yield listed
        elif masks is None or masks.told != BESIDE:
            reason = "a mask of the picture beside it: --masks beside has it weigh the loss"
            dropped.append((listed.key, "ignored", reason))
            skipped.append(Skipped(listed.key, reason))


def _make(file: bytes, listed: Listed, shapes: Shapes, background: tuple[int, int, int], masks: Masks | None) -> _Made:
    picture = decode(
        file,
        background,
        least=(DRAFT * shapes.side, DRAFT * shapes.side),
        alpha=masks is not None and masks.told == ALPHA,
    )
    stored = picture.width, picture.height
    bucket = shapes.of(*stored)
    if bucket is None:
        raise UnfitError(
            "too small", f"{stored[0]}x{stored[1]} px: a side is under {shapes.step} px; --upscale takes it"
        )
    sizes = sizes_of(stored, bucket, listed.original)
    mask = None if masks is None else masks.of(listed, picture)
    shown = None if mask is None else framed(mask, bucket)
    return _Made(framed(picture.image, bucket), stored, sizes, hashlib.sha256(file).hexdigest(), shown)


def look_again(place: str, caption: str | None, reading: Reading) -> np.ndarray:
    """The checks (`data/changes.py`) of a place's pictures, which are read and not decoded. Raises ConfigError."""
    return checks_of((row for row in list_rows(place, reading)[1] if not is_mask(row)), caption)
