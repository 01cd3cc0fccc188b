"""One row of a source to one row of a shard, or the reason why not."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from daybreak.data.pictures import DRAFT, PictureError, decode
from daybreak.data.prepare.hashes import colours, is_blank, phash, thumbnail
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.row import RawRow
from daybreak.data.shards.buckets import crop_box, nearest_bucket
from daybreak.data.shards.format import COPY, OTHERS

CROP_LOSS = 1.5
"""A picture this much wider than the widest bucket would lose a third of itself."""
LONG_CAPTION = 1000
"""Words beyond which a caption is certainly longer than any text encoder reads."""
FINER = 0.75
"""A copy's steps of quantisation, as a part of those of its picture: at quality 92 the copy has 94.

On ten photographs, copies of half the side with these steps, and colours in full (4:4:4), lay 14 % nearer to a Lanczos
filter on the original than the stored picture as the decoder halves it; with the picture's own steps 1 % farther, and
with colours halved as well (4:2:0) 29 %.
"""
SUFFIX = {"jpeg": "jpg", "webp": "webp", "png": "png"}


@dataclass(frozen=True)
class Kept:
    """A row of a shard, its columns by name, the colours by which duplicates are found, and what was changed."""

    columns: dict[str, Any]
    colours: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Dropped:
    """A row that is left out. `kind` groups reasons for the summary; `reason` is the whole sentence."""

    key: str
    kind: str
    reason: str


def process(row: RawRow, settings: PrepareSettings) -> Kept | Dropped:
    """Decodes, checks, brings into the nearest bucket and encodes. The same row gives the same bytes."""
    captions = {name: texts for name in settings.caption_columns if (texts := row.captions.get(name))}
    if row.problem is not None:
        return Dropped(row.key, row.kind, row.problem)
    if not captions and not settings.uncaptioned:
        return Dropped(row.key, "no caption", "no caption")
    least = DRAFT * settings.size
    try:
        picture = decode(row.data, settings.background, least=(least, least))
    except PictureError as e:
        return Dropped(row.key, "broken", str(e))
    width, height = picture.width, picture.height
    if dropped := _unfit(row.key, width, height, settings):
        return dropped
    buckets = settings.buckets
    bucket = buckets[nearest_bucket(width, height, buckets)]
    untouched = picture.image.size == bucket
    image = picture.image
    if not untouched:
        image = image.resize(bucket, Image.Resampling.LANCZOS, box=crop_box(*image.size, bucket))
    thumb = thumbnail(image)
    if is_blank(thumb):
        return Dropped(row.key, "blank", "the picture is blank: all of it has one colour")
    # A file that is as it should be is not encoded again. One with metadata is: photos tell where they were taken.
    as_it_is = untouched and picture.plain and _format(row.data) == settings.encoding
    notes = [*row.notes, *picture.notes]
    if width < bucket[0] or height < bucket[1]:
        notes.append(f"enlarged from {width}x{height} px")
    for name, texts in captions.items():
        if (words := max(len(text.split()) for text in texts)) > LONG_CAPTION:
            notes.append(f"{name} of {words} words; text encoders read a few hundred")
    columns: dict[str, Any] = {
        "key": row.key,
        "image": {
            "bytes": row.data if as_it_is else _encode(image, settings),
            "path": f"{PurePosixPath(row.key).with_suffix('')}.{SUFFIX[settings.encoding]}",
        },
        **{name: captions[name][0] if name in captions else None for name in settings.caption_columns},
        **{name + OTHERS: captions.get(name, [])[1:] or None for name in settings.caption_columns},
        "width": bucket[0],
        "height": bucket[1],
        "bucket": f"{bucket[0]}x{bucket[1]}",
        "original_width": width,
        "original_height": height,
        "sha256": hashlib.sha256(row.data).hexdigest(),
        "phash": f"{phash(thumb):016x}",
    }
    if copy_shape := settings.copy_shapes.get(bucket):
        columns[COPY] = _encode_copy(image.resize(copy_shape, Image.Resampling.LANCZOS), settings)
    return Kept(columns, colours(thumb), tuple(notes))


def _unfit(key: str, width: int, height: int, settings: PrepareSettings) -> Dropped | None:
    least = settings.size // 2 if settings.min_side is None else settings.min_side
    if min(width, height) < least:
        return Dropped(key, "too small", f"{width}x{height} px: the shorter side is below {least} px (--min-side)")
    ratio = max(width, height) / min(width, height)
    widest = max(w / h for w, h in settings.buckets)
    if ratio > CROP_LOSS * widest:
        return Dropped(key, "extreme ratio", f"{width}x{height} px: {ratio:.1f} to 1 would be cropped by over a third")
    return None


def _format(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return (image.format or "").lower()


def _encode(image: Image.Image, settings: PrepareSettings) -> bytes:
    buffer = io.BytesIO()
    if settings.encoding == "jpeg":
        image.save(buffer, "JPEG", quality=settings.quality, subsampling="4:2:0")
    elif settings.encoding == "webp":
        image.save(buffer, "WEBP", quality=settings.quality, method=4)
    else:
        image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _encode_copy(image: Image.Image, settings: PrepareSettings) -> bytes:
    """JPEG beside WebP, too, which halves all colours and takes longer to decode."""
    if settings.encoding == "png":
        return _encode(image, settings)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(100 - FINER * (100 - settings.quality)), subsampling="4:4:4")
    return buffer.getvalue()
