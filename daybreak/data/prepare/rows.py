"""Reads a part: its rows as they lie in the source, none left out."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.data.places import is_remote, join, open_arrow, open_binary, read_bytes
from daybreak.data.prepare.columns import arrow_image_column, caption_columns, caption_text, json_captions
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.prepare.sources import Part

_END = tarfile.EOFHeaderError  # type: ignore[attr-defined]
FETCHES = 16
"""Pictures fetched at a time where they lie elsewhere."""


@dataclass
class RawRow:
    """A row of a source: its encoded picture and captions, or the problem that kept one of them away."""

    key: str
    data: bytes = b""
    captions: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


def read_part(part: Part, settings: PrepareSettings) -> Iterator[RawRow]:
    """The rows of a part in their order. A damaged file gives its readable rows and one more that says what is lost."""
    if part["kind"] == "items":
        yield from _items(part["items"], settings)
        return
    readers = {"tar": _tar, "parquet": _parquet, "arrow": _arrow}
    done = 0
    try:
        for row in readers[part["kind"]](part, settings):
            yield row
            done += 1
    except (OSError, tarfile.TarError, pa.ArrowException, EOFError) as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        yield RawRow(part["name"], problem=f"the file is damaged after {done} rows: {reason}")


def _items(items: list[list[Any]], settings: PrepareSettings) -> Iterator[RawRow]:
    def read(item: list[Any]) -> RawRow:
        key, place, caption = item
        row = RawRow(key, captions=caption if isinstance(caption, dict) else {})
        try:
            row.data = read_bytes(place)
            if isinstance(caption, str):
                text = read_bytes(caption).decode("utf-8-sig", errors="replace").strip()
                row.captions = {next(iter(settings.caption_columns)): text}
        except OSError as e:
            row.problem = str(e)
        return row

    if not any(is_remote(place) for _, place, _ in items):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(FETCHES) as pool:
        for start in range(0, len(items), FETCHES):
            yield from pool.map(read, items[start : start + FETCHES])


class _Member(tarfile.TarInfo):
    """Tells an archive's end from a file that stops: `tarfile` takes both for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile)
        except _END:
            tarfile.has_end = True  # type: ignore[attr-defined]
            raise


def _tar(part: Part, settings: PrepareSettings) -> Iterator[RawRow]:
    """WebDataset: files that share a path up to the first dot of the name, one after another, are a sample."""
    row: RawRow | None = None
    with open_binary(part["file"]) as raw, tarfile.open(fileobj=raw, mode="r|*", tarinfo=_Member) as tar:
        for member in tar:
            if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, extension = name.partition(".")
            key = f"{part['name']}/{folder + '/' if folder else ''}{stem}"
            if row is None or row.key != key:
                if row is not None:
                    yield _with_picture(row)
                row = RawRow(key)
            file = tar.extractfile(member)
            assert file is not None  # it is a plain file
            content = file.read()
            extension = extension.lower()
            if f".{extension.rpartition('.')[2]}" in PICTURE_SUFFIXES:
                row.data = content
                row.problem = "the file is empty" if not content else None
            elif extension == "json":
                row.captions = {**json_captions(content, settings), **row.captions}
            elif extension in settings.captions:
                row.captions[extension] = caption_text(content)
            elif extension in ("txt", "caption", "text") and not settings.captions:
                row.captions["caption"] = caption_text(content)
        complete = hasattr(tar, "has_end")
    if row is not None:
        yield _with_picture(row)
    if not complete:
        raise tarfile.ReadError("it stops before the archive's end")


def _with_picture(row: RawRow) -> RawRow:
    if not row.data and row.problem is None:
        row.problem = "the sample has no picture"
    return row


def _parquet(part: Part, settings: PrepareSettings) -> Iterator[RawRow]:
    source = open_arrow(part["file"])
    with pq.ParquetFile(source) as parquet:
        columns = _Columns(parquet.schema_arrow, part, settings)
        batches = parquet.iter_batches(64, row_groups=list(range(*part["groups"])), columns=columns.names)
        yield from _table_rows(batches, columns, part["row"])


def _arrow(part: Part, settings: PrepareSettings) -> Iterator[RawRow]:
    with open_binary(part["file"]) as file:
        try:
            reader = pa.ipc.open_stream(file)  # what `datasets` keeps in its cache
            batches: Iterator[pa.RecordBatch] = iter(reader)
        except pa.ArrowInvalid:
            file.seek(0)
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        columns = _Columns(reader.schema, part, settings)
        yield from _table_rows((b.select(columns.names) for b in batches), columns, 0)


class _Columns:
    def __init__(self, schema: pa.Schema, part: Part, settings: PrepareSettings) -> None:
        self.file, self.label = part["file"], part["name"]
        self.image = arrow_image_column(schema, settings, self.file)
        self.captions = caption_columns([c for c in schema.names if c != self.image], settings, self.file)
        self.names = list(dict.fromkeys([self.image, *self.captions.values()]))


def _table_rows(batches: Iterator[pa.RecordBatch], columns: _Columns, first: int) -> Iterator[RawRow]:
    folder = columns.file.rpartition("/")[0]
    for batch in batches:
        for values in batch.to_pylist():
            row = RawRow(f"{columns.label}/{first}")
            first += 1
            row.captions = {name: caption_text(values[c]) for name, c in columns.captions.items()}
            value = values[columns.image]
            image, place = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, value)
            try:
                if isinstance(image, bytes):
                    row.data = image
                elif isinstance(place, str) and place:
                    row.data = read_bytes(place if is_remote(place) else join(folder, place))
                else:
                    row.problem = "the row has no picture"
            except OSError as e:
                row.problem = str(e)
            yield row
