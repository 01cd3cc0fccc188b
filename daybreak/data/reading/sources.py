"""What a source is, and its division into parts: the units that are worked on, and redone after a kill.

A part is a plain dictionary, so that a plan can lie on disk and travel to other machines:

    {"kind": "items", "items": [folders.Item, ...]}
    {"kind": "tar", "file": place, "name": ...}                                   a whole WebDataset tar
    {"kind": "parquet", "file": place, "name": ..., "groups": [from, to], "row": number of the first,
     "image": column, "captions": {column of the shards: column}, "beside": {column: place of a caption file}}
    {"kind": "arrow", "file": place, "name": ..., "image": ..., "captions": ...}  a whole Arrow file
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from daybreak.config import ConfigError
from daybreak.data.places import exists, is_remote, join, open_binary
from daybreak.data.reading.columns import SAMPLED, caption_columns, image_column, other_captions, path_in
from daybreak.data.reading.folders import Folder, Item, holds_bytes, more_captions
from daybreak.data.reading.kinds import METADATA, TAR_SUFFIXES, kind_of
from daybreak.data.reading.listing import list_source
from daybreak.data.reading.settings import Reading
from daybreak.data.shards.format import INDEX
from daybreak.data.shards.reader import read_index

Part = dict[str, Any]
ROWS_PER_PART = (16, 1024)
"""Fewest and most: small sources give all workers something, large ones do not drown in files."""
R = TypeVar("R", bound=Reading)


@dataclass
class Plan:
    """The parts of all sources; left: what in them is not worked on, as (key, kind, why); notes: (key, note)."""

    parts: list[Part] = field(default_factory=list)
    left: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def make_plan(sources: list[str], reading: Reading) -> Plan:
    """The division of `sources`, the same each time. Raises ConfigError for a source that can't be read."""
    plan = Plan()
    names = [Path(s.rstrip("/")).name for s in sources]
    for i, source in enumerate(sources):
        prefix = "" if len(sources) == 1 else f"{names[i]}/" if names.count(names[i]) == 1 else f"{i}-{names[i]}/"
        before = len(plan.parts)
        _Planner(source, prefix, reading, plan).run()
        if len(plan.parts) == before:
            why = [f"{key.removeprefix(prefix)}: {reason}" for key, _, reason in plan.left if key.startswith(prefix)]
            more = f"; {why[0]}" if why else ""
            raise ConfigError(f"{source}: there is nothing in it that can be used{more}")
    return plan


def settled(sources: list[str], reading: R) -> R:
    """`reading` with the caption columns of our own shards, where the sources are such and none were asked for."""
    if reading.captions:
        return reading
    captions: dict[str, float] = {}
    for source in sources:
        if not exists(join(source, INDEX)):
            return reading
        captions |= read_index(source).captions
    return replace(reading, captions=captions)


class _Planner:
    def __init__(self, source: str, prefix: str, reading: Reading, plan: Plan) -> None:
        self.source = source if is_remote(source) else str(Path(source).expanduser())
        self.prefix, self.reading, self.plan = prefix, reading, plan

    def run(self) -> None:
        listing = list_source(self.source)
        self.root = listing.root
        self.plan.left += [(self.prefix + name, "hidden", why) for name, why in listing.left]
        if INDEX in listing.files and not is_remote(self.source) and Path(self.source).is_dir():
            self._shards(listing.files)
            return
        tables = [n for n in listing.files if n.rpartition("/")[2] in METADATA]
        tables = [n for n in tables if not n.endswith(".parquet") or not holds_bytes(join(self.root, n))]
        kinds: dict[str, list[str]] = {}
        for name in listing.files:
            if name not in tables:
                kinds.setdefault(kind_of(name), []).append(name)
        if not tables and "picture" not in kinds:
            tables = kinds.pop("table", [])
        stems = {_stem(n) for n in kinds.get("tar", [])}
        for name in [n for n in kinds.get("parquet", []) if _stem(n) in stems]:  # img2dataset writes one for each tar
            kinds["parquet"].remove(name)
            self._leave(name, "ignored", f"a table of {_stem(name)}.tar, which is read itself")
        if tables or "picture" in kinds:
            for name in [n for n in kinds.get("parquet", []) if not holds_bytes(join(self.root, n))]:
                kinds["parquet"].remove(name)  # which Folder lists
        found = [k for k in ("tar", "parquet", "arrow") if kinds.get(k)]
        if tables or "picture" in kinds:
            found.insert(0, "files")
        if not found:
            unread = Folder(listing, self.reading, self.source)
            unread.read([])
            why = "; ".join(f"{name}: {reason}" for name, kind, reason in unread.left[:3] if kind == "not read")
            raise ConfigError(
                f"{self.source}: no pictures, .tar, .parquet, .arrow, .csv or .jsonl in it; nothing to read"
                + (f" ({why})" if why else "")
            )
        if len(found) > 1:
            examples = ", ".join((tables or kinds["picture"])[0] if k == "files" else kinds[k][0] for k in found)
            raise ConfigError(f"{self.source} holds several kinds of sources ({examples}); give each as its own SOURCE")
        (kind,) = found
        if kind == "files":
            self._files(Folder(listing, self.reading, self.source), tables)
            return
        for name in listing.files:
            if name in kinds[kind]:
                getattr(self, f"_{kind}")(join(self.root, name), name, listing.files[name])
            elif kind_of(name) != "parquet" or _stem(name) not in stems:
                self._leave(name, "ignored", f"neither a picture nor its caption, beside .{kind} files")

    def _leave(self, name: str, kind: str, why: str) -> None:
        self.plan.left.append((self.prefix + name, kind, why))

    def _files(self, folder: Folder, tables: list[str]) -> None:
        folder.read(tables)
        self.plan.left += [(self.prefix + name, kind, why) for name, kind, why in folder.left]
        self.plan.notes += [(self.prefix + name, note) for name, note in folder.notes]
        items: list[Item] = [{**item, "key": self.prefix + item["key"]} for item in folder.items]
        least, most = ROWS_PER_PART
        # Each part costs files that are written through to the disk: no more of them than keep some 16 cores busy.
        size = min(most, max(least, len(items) // 32))
        self.plan.parts += [{"kind": "items", "items": items[i : i + size]} for i in range(0, len(items), size)]

    def _tar(self, place: str, name: str, size: int) -> None:
        self.plan.parts.append({"kind": "tar", "file": place, "name": self.prefix + name, "bytes": size})

    def _columns(self, place: str, name: str, columns: list[str], rows: list[dict[str, Any]]) -> Part:
        """Which columns are read, for a part."""
        folder = Path() if is_remote(place) else Path(place).parent
        there = (lambda _: False) if is_remote(place) else path_in(folder)
        image = image_column(columns, rows, self.reading, place, there)
        others = [c for c in columns if c != image]
        captions = caption_columns(others, self.reading, place)
        if more := other_captions(others, captions, self.reading):
            self.plan.notes.append((self.prefix + name, more_captions(captions, more)))
        return {"file": place, "name": self.prefix + name, "image": image, "captions": captions}

    def _arrow(self, place: str, name: str, size: int) -> None:
        try:
            with open_binary(place) as file:
                columns, rows = _first_of_arrow(file)
        except (OSError, pa.ArrowException) as e:
            self._leave(name, "broken", f"no readable Arrow file: {' '.join(str(e).split())[:200]}")
            return
        self.plan.parts.append({"kind": "arrow", **self._columns(place, name, columns, rows), "bytes": size})

    def _parquet(self, place: str, name: str, size: int, beside: dict[str, str] | None = None) -> None:
        try:
            with open_binary(place) as file, pq.ParquetFile(file) as parquet:
                schema, groups = parquet.schema_arrow, parquet.num_row_groups
                rows = [parquet.metadata.row_group(g).num_rows for g in range(groups)]
                first_rows = next(parquet.iter_batches(SAMPLED), None)
                sample = first_rows.to_pylist() if first_rows is not None else []
        except (OSError, pa.ArrowException) as e:
            # Not the user's whole job: the file is listed like a broken picture.
            self._leave(name, "broken", f"no readable Parquet: {' '.join(str(e).split())[:200]}")
            return
        columns = self._columns(place, name, [*schema.names, *(beside or {})], sample)
        start = first = 0
        least = min(ROWS_PER_PART[1], max(ROWS_PER_PART[0], sum(rows) // 64))
        for g in range(groups):
            if sum(rows[start : g + 1]) >= least or g == groups - 1:
                part = {"kind": "parquet", **columns, "bytes": size, "groups": [start, g + 1], "row": first}
                self.plan.parts.append(part if beside is None else {**part, "beside": beside})
                first += sum(rows[start : g + 1])
                start = g + 1

    def _shards(self, files: dict[str, int]) -> None:
        """What `daybreak prepare` made, with the captions that a model wrote beside it."""
        index = read_index(self.root)
        used = {INDEX}
        for number, shard in enumerate(index.shards):
            beside = {name: join(self.root, index.caption_file(name, number)) for name in index.written}
            used |= {shard.file, *(index.caption_file(name, number) for name in index.written)}
            if shard.file in files:
                self._parquet(join(self.root, shard.file), shard.file, files[shard.file], beside)
            else:
                self._leave(shard.file, "broken", "no such file, and the index lists it")
        for name in files:
            if name not in used:
                self._leave(name, "ignored", "belongs to the shards and holds no picture")


def _first_of_arrow(file: Any) -> tuple[list[str], list[dict[str, Any]]]:
    schema, batches = open_arrow_reader(file)
    for batch in batches:
        return schema.names, batch.slice(0, SAMPLED).to_pylist()
    return schema.names, []


def open_arrow_reader(file: Any) -> tuple[pa.Schema, Any]:
    """(schema, record batches) of an Arrow file in either of its two forms."""
    try:
        stream = pa.ipc.open_stream(file)  # what `datasets` keeps in its cache
        return stream.schema, iter(stream)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))


def _stem(name: str) -> str:
    for suffix in (*TAR_SUFFIXES, ".parquet"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
