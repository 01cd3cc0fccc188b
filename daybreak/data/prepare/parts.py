"""Works on one part: reads its rows, and leaves a Parquet file of those kept and a list of the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from daybreak.data.places import write_atomically
from daybreak.data.prepare.convert import Dropped, Kept, process
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.rows import read_part
from daybreak.data.reading.sources import Part
from daybreak.data.shards.format import open_writer, shard_schema
from daybreak.files import settle, unfinished

ROWS_AT_ONCE = 64


def part_files(work: Path, number: int) -> tuple[Path, Path]:
    """A part's kept rows, and its list of the rest, which is written last: with it the part is done."""
    return work / "parts" / f"{number:06d}.parquet", work / "parts" / f"{number:06d}.json"


def part_schema(settings: PrepareSettings) -> pa.Schema:
    """A shard's columns, and what duplicates are found by."""
    schema = shard_schema(list(settings.caption_columns), settings.copy_size is not None)
    return schema.append(pa.field("colours", pa.binary()))


def read_plan(work: Path, offset: int) -> Part:
    """The part at a byte offset of the plan."""
    with (work / "plan.jsonl").open("rb") as file:
        file.seek(offset)
        part: Part = json.loads(file.readline())
        return part


def work_on_part(number: int, offset: int, work: Path, settings: PrepareSettings) -> tuple[int, int]:
    """Makes both files of part `number`, whose description stands at byte `offset` of the plan.

    Returns (rows kept, rows dropped).
    """
    kept_file, list_file = part_files(work, number)
    building = unfinished(kept_file)
    dropped: list[Dropped] = []
    notes: list[tuple[str, str]] = []
    kept = 0
    schema = part_schema(settings)
    with open_writer(building, schema) as writer:
        for chunk in _chunks(read_plan(work, offset), settings, dropped, notes):
            writer.write_table(pa.Table.from_pylist(chunk, schema), row_group_size=ROWS_AT_ONCE)
            kept += len(chunk)
    settle(building, kept_file)
    listing = {"kept": kept, "dropped": [asdict(d) for d in dropped], "notes": notes}
    write_atomically(str(list_file), json.dumps(listing, ensure_ascii=False).encode())
    return kept, len(dropped)


def _chunks(
    part: Part, settings: PrepareSettings, dropped: list[Dropped], notes: list[tuple[str, str]]
) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for raw in read_part(part, settings):
        result = process(raw, settings)
        if isinstance(result, Dropped):
            dropped.append(result)
            continue
        assert isinstance(result, Kept)
        rows.append({**result.columns, "colours": result.colours})
        notes += [(raw.key, note) for note in result.notes]
        if len(rows) == ROWS_AT_ONCE:
            yield rows
            rows = []
    if rows:
        yield rows
