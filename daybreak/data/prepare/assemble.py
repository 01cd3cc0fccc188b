"""From parts to shards: takes duplicates out, decides which row goes where, writes the shards, then the index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daybreak.data.changes import captions_check
from daybreak.data.places import filesystem, is_remote, join, write_atomically
from daybreak.data.prepare.duplicates import find_duplicates
from daybreak.data.prepare.parts import part_files
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.sources import Plan
from daybreak.data.shards.format import (
    COPY,
    DROPPED,
    INDEX,
    NOTES,
    OTHERS,
    ROW_GROUP,
    Index,
    Shard,
    locate_pictures,
    open_writer,
    row_captions,
    row_schema,
    shard_name,
    shard_schema,
    write_rows,
)
from daybreak.files import settle, unfinished

ASSEMBLY = "assembly.parquet"
"""Which row of which part goes to which shard; with it, what is needed of a part is known."""


def plan_shards(work: Path, parts: int, settings: PrepareSettings) -> pa.Table:
    """Table (shard, part, row), in order; written to the work folder, together with the list of duplicates."""
    path = work / ASSEMBLY
    if path.exists():
        return pq.read_table(path)
    duplicates = _duplicates(work, parts, settings)
    out: dict[str, list[int]] = {"shard": [], "part": [], "row": []}
    repeated = {d["number"] for d in duplicates}
    number = shard = size = 0
    for part in range(parts):
        lengths = _column(part_files(work, part)[0], "image.bytes", pc.binary_length)
        for row, length in enumerate(lengths):
            if number not in repeated:
                if size and size + length > settings.shard_mb * 1e6:
                    shard, size = shard + 1, 0
                size += length
                for name, value in (("shard", shard), ("part", part), ("row", row)):
                    out[name].append(value)
            number += 1
    listing = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in duplicates)
    write_atomically(str(work / "duplicates.jsonl"), listing.encode())
    table = pa.table({name: pa.array(values, pa.int32()) for name, values in out.items()})
    building = unfinished(path)
    pq.write_table(table, building)
    settle(building, path)
    return table


def _column(path: Path, column: str, function: Any) -> list[Any]:
    """A column of a part, a row group at a time, so that pictures never fill the memory."""
    values: list[Any] = []
    with pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(64, columns=[column]):
            array = batch.column(0)
            if pa.types.is_struct(array.type):
                array = array.field(0)
            values += function(array).to_pylist()
    return values


def _duplicates(work: Path, parts: int, settings: PrepareSettings) -> list[dict[str, Any]]:
    """One entry per row that repeats another: its number among all kept rows, key, kind and reason."""
    if settings.duplicates == "keep":
        return []
    found = find_duplicates(_identities(work, parts), near=settings.duplicates == "drop")
    wanted = {n for d in found for n in (d.row, d.of)}
    keys: dict[int, tuple[str, list[str]]] = {}
    number = 0
    names = list(settings.caption_columns)
    for part in range(parts):
        table = pq.read_table(part_files(work, part)[0], columns=["key", *names], partitioning=None)
        for row in table.to_pylist() if wanted else ():
            if number in wanted:
                keys[number] = (row["key"], [row[n] for n in names])
            number += 1
    result = []
    for d in found:
        (key, captions), (first, first_captions) = keys[d.row], keys[d.of]
        what = "the same file as" if d.exact else "the same picture as"
        other = "" if captions == first_captions else ", with another caption"
        kind = "duplicate" if d.exact else "near duplicate"
        result.append({"number": d.row, "key": key, "kind": kind, "reason": f"{what} {first}{other}"})
    return result


def _identities(work: Path, parts: int) -> Iterator[tuple[str, int, bytes]]:
    for part in range(parts):
        table = pq.read_table(part_files(work, part)[0], columns=["sha256", "phash", "colours"], partitioning=None)
        for sha, phash, colours in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
            yield sha, int(phash, 16), colours


def done_file(work: Path, shard: int) -> Path:
    """Says where the pictures of a finished shard lie; written when the shard has its name."""
    return work / "shards" / f"{shard:06d}.parquet"


def write_shard(
    number: int, of: int, rows: list[tuple[int, list[int]]], work: Path, out: str, settings: PrepareSettings
) -> int:
    """Writes shard `number` from [(part, rows of it)] and then its line of the row table. Returns its number."""
    captions = list(settings.caption_columns)
    has_copies = settings.copy_size is not None
    schema = shard_schema(captions, has_copies)
    name = shard_name(number, of)
    folder = work / "shards" if is_remote(out) else Path(out, name).parent
    folder.mkdir(parents=True, exist_ok=True)
    building = unfinished(folder / f"shard-{number:06d}")
    with open_writer(building, schema) as writer:
        waiting: list[pa.Table] = []
        for table in _tables(rows, work, schema):
            waiting.append(table)
            if sum(len(t) for t in waiting) >= ROW_GROUP:
                joined = pa.concat_tables(waiting)
                whole = len(joined) // ROW_GROUP * ROW_GROUP
                writer.write_table(joined.slice(0, whole), row_group_size=ROW_GROUP)
                waiting = [joined.slice(whole)]
        if sum(len(t) for t in waiting):
            writer.write_table(pa.concat_tables(waiting))
    places = locate_pictures(building)
    table = pq.read_table(
        building, columns=["width", "height", *captions, *(c + OTHERS for c in captions)], partitioning=None
    )
    has_caption = [any(values) for values in zip(*(table[c].to_pylist() for c in captions), strict=True)]
    lines = {
        "shard": [number] * len(places),
        "row": list(range(len(places))),
        "offset": [p[0] for p in places],
        "length": [p[1] for p in places],
        "crc32": [p[2] for p in places],
        "width": table["width"].to_pylist(),
        "height": table["height"].to_pylist(),
        "captioned": has_caption,
        "captions_crc32": [captions_check(row_captions(row, captions)) for row in table.to_pylist()],
    }
    if has_copies:
        copies = locate_pictures(building, COPY)
        shapes = [settings.copy_shapes[shape] for shape in zip(lines["width"], lines["height"], strict=True)]
        lines |= {
            "copy_offset": [c[0] for c in copies],
            "copy_length": [c[1] for c in copies],
            "copy_crc32": [c[2] for c in copies],
            "copy_width": [width for width, _ in shapes],
            "copy_height": [height for _, height in shapes],
        }
    size = building.stat().st_size
    if is_remote(out):
        fs, target = filesystem(join(out, name))
        fs.makedirs(fs._parent(target), exist_ok=True)
        fs.put_file(str(building), target)
        building.unlink()
    else:
        settle(building, Path(out, name))
    done = done_file(work, number)
    building = unfinished(done)
    schema = row_schema(has_copies).with_metadata({"bytes": str(size)})
    pq.write_table(pa.table(lines, schema=schema), building)
    settle(building, done)
    return number


def _tables(rows: list[tuple[int, list[int]]], work: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    for part, wanted in rows:
        with pq.ParquetFile(part_files(work, part)[0]) as parquet:
            first = 0
            for group in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(group).num_rows
                here = [r - first for r in wanted if first <= r < first + count]
                first += count
                if here:
                    table = parquet.read_row_group(group, columns=schema.names).select(schema.names)
                    yield table.take(here).replace_schema_metadata(schema.metadata)


def write_lists(work: Path, out: str, parts: int, plan: Plan) -> dict[str, int]:
    """Writes what was dropped and what was changed, each with its reason. Returns kind of reason -> rows dropped."""
    dropped: list[dict[str, str]] = [{"key": k, "kind": kind, "reason": r} for k, kind, r in plan.left]
    notes: list[dict[str, str]] = [{"key": key, "note": note} for key, note in plan.notes]
    for part in range(parts):
        listing = json.loads(part_files(work, part)[1].read_text(encoding="utf-8"))
        dropped += listing["dropped"]
        notes += [{"key": key, "note": note} for key, note in listing["notes"]]
    for line in (work / "duplicates.jsonl").read_text(encoding="utf-8").splitlines():
        duplicate = json.loads(line)
        dropped.append({k: duplicate[k] for k in ("key", "kind", "reason")})
    for name, lines in ((DROPPED, dropped), (NOTES, notes)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomically(join(out, name), text.encode())
    return dict(sorted(Counter(d["kind"] for d in dropped).items()))


def write_index(
    work: Path, out: str, shards: int, dropped: dict[str, int], settings: PrepareSettings, fingerprint: str
) -> Index:
    """Writes the row table and, last of all, the index."""
    tables = [pq.read_table(done_file(work, s), partitioning=None) for s in range(shards)]
    rows = pa.concat_tables([t.replace_schema_metadata(None) for t in tables])
    copies = {}
    if settings.copy_size is not None:
        copies = {"copies": {"size": settings.copy_size, "bytes": pc.sum(rows["copy_length"]).as_py()}}
    index = Index(
        size=settings.size,
        patch=settings.patch,
        max_ratio=settings.max_ratio,
        captions=settings.caption_columns,
        shards=[Shard(shard_name(i, shards), len(t), int(t.schema.metadata[b"bytes"])) for i, t in enumerate(tables)],
        rows=len(rows),
        dropped=dropped,
        settings={
            "encoding": settings.encoding,
            "quality": settings.quality,
            "duplicates": settings.duplicates,
            **copies,
            "fingerprint": fingerprint,
        },
    )
    write_rows(out, rows)
    write_atomically(join(out, INDEX), index.dumps().encode())
    return index
