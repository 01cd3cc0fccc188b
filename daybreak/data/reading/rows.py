"""Reads a part: its rows as they lie in the source, none left out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daybreak.data.places import is_remote, join, open_arrow, open_binary, read_bytes
from daybreak.data.reading.columns import first_of, from_base64, json_captions
from daybreak.data.reading.folders import Item
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import Part, Plan, open_arrow_reader
from daybreak.data.reading.tars import DAMAGE, read_tar
from daybreak.data.reading.text import TextError, captions_in, decode_text
from daybreak.data.shards.format import OTHERS, read_written

FETCHES = 16
"""Pictures fetched at a time where they lie elsewhere."""


def read_part(part: Part, reading: Reading) -> Iterator[RawRow]:
    """The rows of a part in their order. A damaged file gives its readable rows and one more that says what is lost."""
    if part["kind"] == "items":
        yield from _items(part["items"], reading)
        return
    readers = {"tar": read_tar, "parquet": _parquet, "arrow": _arrow}
    done = 0
    try:
        for row in readers[part["kind"]](part, reading):
            yield row
            done += row.kind == "broken"
    except (*DAMAGE, pa.ArrowException) as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        yield RawRow(part["name"], problem=f"the file is damaged after {done} rows: {reason}")


def source_rows(plan: Plan, reading: Reading) -> Iterator[RawRow]:
    """All rows of a plan; of pictures that are files of their own only the captions, so that threads may read them."""
    for part in plan.parts:
        if part["kind"] == "items":
            yield from (caption_item(item, reading) for item in part["items"])
        else:
            yield from read_part(part, reading)


def _items(items: list[Item], reading: Reading) -> Iterator[RawRow]:
    def read(item: Item) -> RawRow:
        return read_item(item, reading)

    if not any(is_remote(item.get("place", "")) for item in items):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(FETCHES) as pool:
        for start in range(0, len(items), FETCHES):
            yield from pool.map(read, items[start : start + FETCHES])


def read_item(item: Item, reading: Reading) -> RawRow:
    """A picture that is a file of its own, with its captions."""
    row = caption_item(item, reading)
    try:
        row.data = row.data or read_bytes(item["place"])
    except OSError as e:
        row.problem, row.kind = str(e), "broken"
    return row


def caption_item(item: Item, reading: Reading) -> RawRow:
    """As `read_item`, without the picture's bytes."""
    row = RawRow(item["key"], captions=dict(item.get("captions", {})), notes=list(item.get("notes", ())))
    row.place = item.get("place")
    if "data" in item:
        row.data = from_base64(item["data"]) or b""
    if "problem" in item:
        row.problem, row.kind = item["problem"], "unreadable caption"
    if "files" in item:
        _read_sidecars(row, item["files"], reading)
    return row


def _read_sidecars(row: RawRow, files: list[str], reading: Reading) -> None:
    """The captions of the first file that has any; the others are told of where they say something else."""
    for file in files:
        name = file.rpartition("/")[2]
        try:
            text, note = decode_text(read_bytes(file))
            if file.lower().endswith(".json"):
                found = json_captions(text, reading)
            else:
                texts = captions_in(text, reading.lines)
                found = {next(iter(reading.caption_columns)): texts} if texts else None
        except (TextError, OSError) as e:
            row.problem, row.kind = f"{name}: {e}", "unreadable caption"
            return
        if not found:
            continue
        if not row.captions:
            row.captions = found
            row.notes += [f"{name}: {note}"] if note else []
            if len(files) == 1:
                return
        elif not file.lower().endswith(".json") and found != row.captions:
            row.notes.append(f"{name} says something else and is not read")


def _parquet(part: Part, reading: Reading) -> Iterator[RawRow]:
    own = [c for c in part["captions"].values() if c not in part.get("beside", {})]
    with pq.ParquetFile(open_arrow(part["file"])) as parquet:
        names = parquet.schema_arrow.names
        # Our own shards keep the first of several captions by itself.
        lists = {n: f"{n}{OTHERS}" for n in own if f"{n}{OTHERS}" in names and "beside" in part}
        columns = list(dict.fromkeys([part["image"], *own, *lists.values()]))
        batches = parquet.iter_batches(64, row_groups=list(range(*part["groups"])), columns=columns)
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from _table_rows(_joined(rows, part, lists), part, reading, part["row"])


def _joined(rows: Iterator[dict[str, Any]], part: Part, lists: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Rows with what lies elsewhere: captions in files beside the shard, and further captions of our own shards."""
    beside = {
        name: read_written(place, name)
        for name, place in part.get("beside", {}).items()
        if name in part["captions"].values()
    }
    for number, row in enumerate(rows, start=part["row"]):
        for name, others in lists.items():
            row[name] = [row[name], *(row[others] or [])]
        yield {**row, **{name: column[number].as_py() for name, column in beside.items()}}


def _arrow(part: Part, reading: Reading) -> Iterator[RawRow]:
    names = list(dict.fromkeys([part["image"], *part["captions"].values()]))
    with open_binary(part["file"]) as file:
        _, batches = open_arrow_reader(file)
        rows = (row for batch in batches for row in batch.select(names).to_pylist())
        yield from _table_rows(rows, part, reading, 0)


def _table_rows(rows: Iterator[dict[str, Any]], part: Part, reading: Reading, first: int) -> Iterator[RawRow]:
    folder = part["file"].rpartition("/")[0]
    for number, values in enumerate(rows, start=first):
        row = RawRow(f"{part['name']}/{number}")
        try:
            for name, column in part["captions"].items():
                row.captions[name] = captions_in(values.get(column), reading.lines)
        except TextError as e:
            row.problem, row.kind = str(e), "unreadable caption"
        try:
            row.data = _picture(values[part["image"]], folder, row)
        except OSError as e:
            row.problem, row.kind = str(e), "broken"
        yield row


def _picture(value: Any, folder: str, row: RawRow) -> bytes:
    """The bytes of a cell: a struct of bytes and path, bytes, a path or address, base64, or a list of these."""
    if isinstance(value, (list, tuple)) and value:
        if len(value) > 1:
            row.notes.append(f"the first of {len(value)} pictures is used")
        value = first_of(value)
    image, place = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, value)
    if isinstance(image, str) and (data := from_base64(image)) is not None:
        return data
    if isinstance(image, bytes):
        return image
    if isinstance(place, str) and place:
        return read_bytes(place if is_remote(place) else join(folder, place))
    raise OSError("the row has no picture")
