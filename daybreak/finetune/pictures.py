"""The user's pictures, decoded once, with what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.data.inspect.findings import Finding, Report, examine
from daybreak.data.inspect.look import Look, Seen
from daybreak.data.listing import holds_shards, list_items
from daybreak.data.pictures import PictureError, decode
from daybreak.data.pixel_file import PixelFile, threaded
from daybreak.data.shards.reader import RowError, ShardReader
from daybreak.finetune.families import Family

CUT_SHOWN = 5
"""Cut captions that are shown."""


@dataclass(frozen=True)
class Entry:
    """A picture before it is opened: its name, its caption, and how to get at the file."""

    key: str
    caption: str
    file: Callable[[], bytes | Path]


@dataclass
class Pictures:
    """Usable pictures: pixels [N, S, S, 3] uint8 with their captions; `look` for the findings; `skipped` the rest."""

    pixels: np.ndarray
    captions: list[str]
    look: Look
    skipped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.captions)


def list_entries(place: str) -> list[Entry]:
    """What a folder of captioned pictures, or prepared shards, holds. ConfigError as `list_items` raises it."""
    if holds_shards(place):
        reader = ShardReader(place)
        captions = [next(iter(reader.captions(i).values()), "") for i in range(len(reader))]
        return [Entry(reader.name(i), c, partial(reader.picture_bytes, i)) for i, c in enumerate(captions)]
    items = list_items(Path(place).expanduser())
    return [Entry(str(item.path), item.caption, partial(Path, item.path)) for item in items]


def open_pictures(
    place: str, side: int, background: tuple[int, int, int], caption: str | None = None, flag: str = "--data"
) -> Pictures:
    """The usable pictures of a place as squares of `side` px; `caption`: of every picture, in place of its own.

    Raises ConfigError, which names `flag`, where none is usable.
    """
    entries, skipped = [], []
    try:
        found = list_entries(place)
    except ConfigError as e:
        raise ConfigError(str(e).replace("--data", flag, 1)) from None
    for entry in found:
        if caption or entry.caption:
            entries.append(entry)
        else:
            skipped.append(Skipped(entry.key, "no caption"))
    look = Look(place, is_shards=False, size=side)
    pixels = PixelFile(side)
    captions: list[str] = []

    def work(entry: Entry) -> tuple[np.ndarray, int, int] | str:
        try:
            picture = decode(entry.file(), background, least=(side, side))
            square = ImageOps.fit(picture.image, (side, side), Image.Resampling.LANCZOS)
            return np.asarray(square), picture.width, picture.height
        except (PictureError, RowError) as e:
            return str(e)

    for entry, result in threaded(work, entries):
        if isinstance(result, str):
            skipped.append(Skipped(entry.key, result))
            look.dropped.append((entry.key, "broken", result))
            continue
        square, width, height = result
        pixels.add(square)
        captions.append(caption or entry.caption)
        own = {"caption": captions[-1]}
        look.rows.append(Seen(entry.key, own, width, height, f"{side}x{side}", square.nbytes))
    look.dropped += [(s.path, "no caption", s.reason) for s in skipped if s.reason == "no caption"]
    if not captions:
        reasons = sorted({s.reason for s in skipped})
        raise ConfigError(f"{flag} {place}: none of its {len(skipped)} items is usable ({'; '.join(reasons[:3])})")
    return Pictures(pixels.array(), captions, look, skipped)


def findings(pictures: Pictures, family: Family) -> Report:
    """What `daybreak inspect` would say of them for fine-tuning; captions are counted with the base's own tokenizer."""
    tokenizer = getattr(family.pipeline, family.tokenizers[0])
    limit = family.max_tokens()
    report = examine(
        pictures.look, limit, lambda texts: np.array([len(i) for i in tokenizer(texts, truncation=False)["input_ids"]])
    )
    report.findings[:] = [f for f in report.findings if f.level != "note" or "shapes have fewer" not in f.what]
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
