"""Reads what there is to be said of a source or of shards: one `Look` for both."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from daybreak.data.engines.tasks import run_tasks
from daybreak.data.listing import holds_shards
from daybreak.data.prepare.convert import Dropped, process
from daybreak.data.prepare.duplicates import find_duplicates
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.rows import read_part
from daybreak.data.reading.sources import Part, make_plan
from daybreak.data.shards.format import COPY, read_dropped
from daybreak.data.shards.reader import RowError, ShardReader

SAMPLES = 24
THUMB = 160
"""Longest side of a sample picture, px."""


@dataclass(frozen=True)
class Seen:
    """A usable row: captions by column, the original's size, the bucket's, its encoded length in bytes, its copy's."""

    key: str
    captions: dict[str, str]
    width: int
    height: int
    bucket: str
    bytes: int
    copy_bytes: int = 0


@dataclass
class Look:
    """What there is: usable rows, what is not usable (key, kind, reason), sample pictures as (JPEG, key, caption).

    damaged: shards or rows that cannot be read any more, as (where, why).
    """

    place: str
    is_shards: bool
    size: int
    rows: list[Seen] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    samples: list[tuple[bytes, str, str]] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)


Progress = Callable[[int, int], None]


def look_at(place: str, settings: PrepareSettings, workers: int | None, progress: Progress) -> Look:
    """Looks at shards, or at a source as `daybreak prepare` would take it, without writing anything."""
    if holds_shards(place):
        return _look_at_shards(place, progress)
    return _look_at_source(place, settings, workers, progress)


def _look_at_source(place: str, settings: PrepareSettings, workers: int | None, progress: Progress) -> Look:
    plan = make_plan([place], settings)
    look = Look(place, is_shards=False, size=settings.size)
    look.dropped = list(plan.left)
    each = max(1, -(-SAMPLES // len(plan.parts)))
    found: dict[int, PartSeen] = {}
    tasks = [(i, part, settings, each) for i, part in enumerate(plan.parts)]
    for number, result in run_tasks(see_part, tasks, workers):
        found[number] = result
        progress(len(found), len(tasks))
    identities, rows, samples = [], [], []
    for number in sorted(found):
        result = found[number]
        rows += result.rows
        identities += result.identities
        look.dropped += [(d.key, d.kind, d.reason) for d in result.dropped]
        samples += result.samples
    stride = max(1, len(samples) // SAMPLES)
    look.samples = samples[::stride][:SAMPLES]
    repeated = set()
    for d in find_duplicates(identities, near=settings.duplicates == "drop"):
        repeated.add(d.row)
        what, kind = ("the same file as", "duplicate") if d.exact else ("the same picture as", "near duplicate")
        look.dropped.append((rows[d.row].key, kind, f"{what} {rows[d.of].key}"))
    look.rows = [row for i, row in enumerate(rows) if i not in repeated]
    return look


@dataclass(frozen=True)
class PartSeen:
    """What a part of a source holds."""

    rows: list[Seen]
    identities: list[tuple[str, int, bytes]]
    dropped: list[Dropped]
    samples: list[tuple[bytes, str, str]]


def see_part(number: int, part: Part, settings: PrepareSettings, samples: int) -> tuple[int, PartSeen]:
    """The rows of a part as `prepare` would keep and drop them, and its first pictures in small."""
    seen = PartSeen([], [], [], [])
    for raw in read_part(part, settings):
        result = process(raw, settings)
        if isinstance(result, Dropped):
            seen.dropped.append(result)
            continue
        c = result.columns
        captions = {name: c[name] for name in settings.caption_columns if c[name]}
        lengths = len(c["image"]["bytes"]), len(c.get(COPY, b""))
        row = Seen(c["key"], captions, c["original_width"], c["original_height"], c["bucket"], *lengths)
        seen.rows.append(row)
        seen.identities.append((c["sha256"], int(c["phash"], 16), result.colours))
        if len(seen.samples) < samples:
            seen.samples.append((_small(c["image"]["bytes"]), row.key, next(iter(captions.values()), "")))
    return number, seen


def _look_at_shards(place: str, progress: Progress) -> Look:
    reader = ShardReader(place)
    index = reader.index
    look = Look(place, is_shards=True, size=index.size)
    look.damaged = [(file, reason) for file, reason, _ in reader.missing()]
    columns = ["key", "original_width", "original_height", "bucket"]
    start = 0
    for number, shard in enumerate(index.shards):
        progress(number, len(index.shards))
        try:
            with reader.files.local(shard.file).open("rb") as file:
                table = pq.read_table(pa.PythonFile(file), columns=columns)
        except (OSError, pa.ArrowException, RowError):
            start += shard.rows
            continue  # listed as damaged
        for i, row in enumerate(table.to_pylist()):
            captions = reader.captions(start + i)
            original = row["original_width"], row["original_height"]
            look.rows.append(Seen(row["key"], captions, *original, row["bucket"], *reader.bytes_of(start + i)))
        start += shard.rows
    for i in range(0, len(reader), max(1, len(reader) // SAMPLES)):
        try:
            caption = next(iter(reader.captions(i).values()), "")
            look.samples.append((_small(reader.picture_bytes(i)), reader.name(i), caption))
            reader.copy_bytes(i)  # raises where it is damaged
        except RowError as e:
            look.damaged.append((reader.name(i), str(e)))
    look.samples = look.samples[:SAMPLES]
    look.dropped = list(_dropped(place))
    return look


def _dropped(place: str) -> Iterator[tuple[str, str, str]]:
    for entry in read_dropped(place):
        yield entry["key"], entry["kind"], entry["reason"]


def _small(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (THUMB, THUMB))
        rgb = image.convert("RGB")
    rgb.thumbnail((THUMB, THUMB))
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def report_place(place: str) -> Path:
    """Where the page goes by default: beside the command, named after the place."""
    name = place.rstrip("/").rpartition("/")[2] or "data"
    return Path(f"inspect-{name}.html")
