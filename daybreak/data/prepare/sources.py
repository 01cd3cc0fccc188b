"""What a source is, and its division into parts: the units that are worked on, and redone after a kill.

A part is a plain dictionary, so that a plan can lie on disk and travel to other machines:

    {"kind": "items", "items": [[key, picture's place, {column: caption} | place of a text file | null], ...]}
    {"kind": "tar", "file": place, "name": ...}                                   a whole WebDataset tar
    {"kind": "parquet", "file": place, "name": ..., "groups": [from, to], "row": number of the first}
    {"kind": "arrow", "file": place, "name": ...}                                 a whole Arrow file
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daybreak.config import ConfigError
from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.data.places import filesystem, is_remote, join, open_binary
from daybreak.data.prepare.columns import arrow_image_column, caption_columns, caption_text, image_column
from daybreak.data.prepare.settings import PrepareSettings

Part = dict[str, Any]
TAR = (".tar", ".tar.gz", ".tgz")
METADATA = ("metadata.jsonl", "metadata.csv")
ROWS_PER_PART = (16, 1024)
"""Fewest and most: small sources give all workers something, large ones do not drown in files."""


@dataclass
class Plan:
    """The parts of all sources, and what lies in them that is not worked on: (place, why)."""

    parts: list[Part] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def make_plan(sources: list[str], settings: PrepareSettings) -> Plan:
    """The division of `sources`, the same each time. Raises ConfigError for a source that can't be read."""
    plan = Plan()
    names = [Path(s.rstrip("/")).name for s in sources]
    for i, source in enumerate(sources):
        prefix = "" if len(sources) == 1 else f"{names[i]}/" if names.count(names[i]) == 1 else f"{i}-{names[i]}/"
        before = len(plan.parts)
        _Planner(source, prefix, settings, plan).run()
        if len(plan.parts) == before:
            raise ConfigError(f"{source}: there is nothing in it")
    return plan


class _Planner:
    def __init__(self, source: str, prefix: str, settings: PrepareSettings, plan: Plan) -> None:
        self.source = source if is_remote(source) else str(Path(source).expanduser())
        self.prefix, self.settings, self.plan = prefix, settings, plan

    def run(self) -> None:
        root, files = _list_files(self.source)
        for name in METADATA:
            if name in files:
                self._table(join(root, name), root)
                return
        kinds: dict[str, list[str]] = {}
        for name in files:
            kinds.setdefault(_kind(name), []).append(name)
        found = [k for k in ("picture", "tar", "parquet", "arrow", "table") if k in kinds]
        if not found:
            raise ConfigError(
                f"{self.source}: no pictures, .tar, .parquet, .arrow, .csv or .jsonl in it; nothing to prepare"
            )
        if len(found) > 1:
            examples = ", ".join(kinds[k][0] for k in found)
            raise ConfigError(f"{self.source} holds several kinds of sources ({examples}); give each as its own SOURCE")
        (kind,) = found
        if kind == "picture":
            self._pictures(root, kinds)
        for name in kinds[kind]:
            if kind == "table":
                place = join(root, name)
                self._table(place, place.rpartition("/")[0])
            elif kind != "picture":
                getattr(self, f"_{kind}")(join(root, name), name, files[name])
        for name in kinds.get("other", []):
            self.plan.ignored.append((self.prefix + name, "neither a picture nor its caption"))

    def _pictures(self, root: str, kinds: dict[str, list[str]]) -> None:
        """Pictures with a .txt of the same name beside each."""
        texts = set(kinds.get("text", []))
        items = []
        for name in kinds["picture"]:
            beside = name.rpartition(".")[0] + ".txt"
            items.append([self.prefix + name, join(root, name), join(root, beside) if beside in texts else None])
            texts.discard(beside)
        if len(items) and len(texts) == len(kinds.get("text", [])) and not self.settings.uncaptioned:
            raise ConfigError(
                f"{self.source}: {len(items)} pictures and no caption; looked for metadata.jsonl, metadata.csv and a "
                ".txt beside each picture (or keep them without captions with --uncaptioned)"
            )
        for name in sorted(texts):
            self.plan.ignored.append((self.prefix + name, "a caption without its picture"))
        self._items(items)

    def _items(self, items: list[list[Any]]) -> None:
        least, most = ROWS_PER_PART
        size = min(most, max(least, len(items) // 64))
        self.plan.parts += [{"kind": "items", "items": items[i : i + size]} for i in range(0, len(items), size)]

    def _table(self, place: str, folder: str) -> None:
        """A CSV or JSONL file with paths, relative to `folder`, or addresses."""
        rows = _read_jsonl(place) if place.endswith(".jsonl") else _read_csv(place)
        items, image, captions = [], "", {}
        for number, row in rows:
            if not image:
                image = image_column(list(row), self.settings, place)
                captions = caption_columns([c for c in row if c != image], self.settings, place)
            where = row.get(image)
            if not isinstance(where, str) or not where.strip():
                self.plan.ignored.append((f"{self.prefix}{Path(place).name}, line {number}", f"no {image}"))
                continue
            path = where if is_remote(where) or os.path.isabs(where) else join(folder, where)  # noqa: PTH117
            items.append([self.prefix + where, path, {n: caption_text(row.get(c)) for n, c in captions.items()}])
        self._items(items)

    def _tar(self, place: str, name: str, size: int) -> None:
        self.plan.parts.append({"kind": "tar", "file": place, "name": self.prefix + name, "bytes": size})

    def _arrow(self, place: str, name: str, size: int) -> None:
        self.plan.parts.append({"kind": "arrow", "file": place, "name": self.prefix + name, "bytes": size})

    def _parquet(self, place: str, name: str, size: int) -> None:
        try:
            with open_binary(place) as file, pq.ParquetFile(file) as parquet:
                schema, groups = parquet.schema_arrow, parquet.num_row_groups
                rows = [parquet.metadata.row_group(g).num_rows for g in range(groups)]
        except (OSError, pa.ArrowException) as e:
            # Not the user's whole job: the file is listed like a broken picture.
            self.plan.ignored.append((self.prefix + name, f"no readable Parquet: {' '.join(str(e).split())[:200]}"))
            return
        image = arrow_image_column(schema, self.settings, place)
        caption_columns([c for c in schema.names if c != image], self.settings, place)
        start = first = 0
        least = min(ROWS_PER_PART[1], max(ROWS_PER_PART[0], sum(rows) // 64))
        for g in range(groups):
            if sum(rows[start : g + 1]) >= least or g == groups - 1:
                part = {"kind": "parquet", "file": place, "name": self.prefix + name, "bytes": size}
                self.plan.parts.append({**part, "groups": [start, g + 1], "row": first})
                first += sum(rows[start : g + 1])
                start = g + 1


def _list_files(source: str) -> tuple[str, dict[str, int]]:
    """(root, {path below it: bytes}) of a file, a folder or a pattern with *, sorted, hidden files left out."""
    if is_remote(source):
        fs, path = filesystem(source)
        try:
            if "*" in path:
                found = {p: fs.info(p) for p in fs.glob(path)}
                root = path[: path.index("*")].rpartition("/")[0]
            elif fs.isfile(path):
                found, root = {path: fs.info(path)}, path.rpartition("/")[0]
            else:
                found, root = fs.find(path, detail=True), path.rstrip("/")
        except (OSError, ValueError) as e:
            raise ConfigError(f"{source} cannot be read: {' '.join(str(e).split())}") from None
        sizes = {p.removeprefix(root).lstrip("/"): int(i.get("size") or 0) for p, i in found.items()}
        root = str(fs.unstrip_protocol(root))
    elif "*" in source and not Path(source).exists():
        root = source[: source.index("*")].rpartition("/")[0] or "."
        matches = [Path(p) for p in glob.glob(source, recursive=True)]  # noqa: PTH207 - the pattern may be absolute
        sizes = {str(p.relative_to(root)): p.stat().st_size for p in matches if p.is_file()}
    elif Path(source).is_file():
        root, sizes = str(Path(source).parent), {Path(source).name: Path(source).stat().st_size}
    elif Path(source).is_dir():
        root = source
        sizes = {}
        for folder, _, names in os.walk(source):
            for file in (Path(folder, name) for name in names):
                sizes[file.relative_to(source).as_posix()] = file.stat().st_size if file.exists() else 0
    else:
        raise ConfigError(f"{source}: no such file or folder")
    visible = {n: s for n, s in sizes.items() if not any(p.startswith(".") for p in n.split("/"))}
    if not visible:
        raise ConfigError(f"{source}: there is nothing in it")
    return root, dict(sorted(visible.items()))


def _kind(name: str) -> str:
    lower = name.lower()
    if lower.endswith(PICTURE_SUFFIXES):
        return "picture"
    if lower.endswith(TAR):
        return "tar"
    for suffix, kind in ((".parquet", "parquet"), (".arrow", "arrow"), (".csv", "table"), (".jsonl", "table")):
        if lower.endswith(suffix):
            return kind
    return "text" if lower.endswith(".txt") else "other"


def _read_jsonl(place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_lines(place), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            raise ConfigError(f"{place}, line {number} is not JSON: {e.msg}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{place}, line {number} should be an object with names, not a {type(row).__name__}")
        yield number, row


def _read_csv(place: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(_lines(place))
    for row in reader:
        yield reader.line_num, row


def _lines(place: str) -> Iterator[str]:
    try:
        with open_binary(place) as file:
            yield from io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{place} is not UTF-8 text: {e.reason} at byte {e.start}") from None
    except OSError as e:
        raise ConfigError(f"{place} cannot be read: {e.strerror or e}") from None
