"""Pictures that lie as files: with a table that names them (an ImageFolder's metadata), or a caption beside each."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daybreak.config import ConfigError
from daybreak.data.places import is_remote, join, open_binary
from daybreak.data.reading.columns import (
    SAMPLED,
    NoImageColumnError,
    caption_columns,
    from_base64,
    image_column,
    is_picture,
    other_captions,
    path_in,
)
from daybreak.data.reading.kinds import UNREAD, kind_of, suffix
from daybreak.data.reading.listing import Listing, folded
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sidecars import pair
from daybreak.data.reading.tables import Table, read_text_table
from daybreak.data.reading.text import TextError, captions_in

Item = dict[str, Any]
"""key, place (of the picture; or data: in base64); captions: column -> texts, or files: places of the caption; notes;
problem: what is wrong with the caption."""


class Folder:
    """What a folder of pictures holds: items; left: (path, kind, why) of every other file; notes: (path, note)."""

    def __init__(self, listing: Listing, reading: Reading, source: str) -> None:
        self.listing, self.reading, self.source = listing, reading, source
        self.items: list[Item] = []
        self.left: list[tuple[str, str, str]] = []
        self.notes: list[tuple[str, str]] = []
        self._folded: dict[str, list[str]] = {}
        for name in listing.files:
            self._folded.setdefault(folded(name), []).append(name)
        self._named: dict[str, str] = {}
        self._only = True

    def read(self, tables: list[str]) -> None:
        """Fills the lists. `tables`: the files that name pictures; each speaks of its own folder and those below."""
        self._only = len(tables) == 1
        nearest_first = sorted(tables, key=lambda t: (-t.count("/"), t))  # the nearest table decides
        read = {table for table in nearest_first if self._read_table(table)}
        governed = {t.rpartition("/")[0]: t for t in reversed(tables) if t in read}
        self.items.sort(key=lambda item: item["order"])
        for item in self.items:
            del item["order"]
        beside: dict[str, list[str]] = {"picture": [], "text": [], "json": [], "unread": []}
        for name in self.listing.files:
            if name in tables or name in self._named:
                continue
            kind, above = kind_of(name), _nearest(name, governed)
            if above is not None and kind == "picture":
                self.left.append((name, "not named", f"{above} does not name it"))
            elif above is not None and kind == "text":
                self.left.append((name, "ignored", f"{above} says the captions here"))
            elif kind in beside:
                beside[kind].append(name)
            elif kind in ("table", "parquet"):
                self.left.append((name, "ignored", "a table of another name than metadata.csv, .jsonl or .parquet"))
            else:
                self.left.append((name, "ignored", "neither a picture nor its caption"))
        self._read_pairs(beside)

    def _read_pairs(self, beside: dict[str, list[str]]) -> None:
        captions = [*beside["text"], *beside["json"]]
        pairs = pair(beside["picture"], captions)
        of_unread = pair(beside["unread"], pairs.alone)
        for name in beside["picture"]:
            item: Item = {"key": name, "place": self._place(name)}
            if pairs.of[name]:
                item["files"] = [self._place(n) for n in pairs.of[name]]
            self.items.append(item)
        for name in beside["unread"]:
            self.left.append((name, "not read", UNREAD[suffix(name)]))
            self.left += [
                (n, "ignored", f"the caption of {name.rpartition('/')[2]}, which is not read")
                for n in of_unread.of[name]
            ]
        for name in of_unread.alone:
            lonely = name in beside["text"]
            why = "a caption without its picture" if lonely else "neither a picture nor its caption"
            self.left.append((name, "ignored", why))
        if beside["picture"] and not any(pairs.of.values()) and not self.items[: -len(beside["picture"])]:
            self._refuse_uncaptioned(len(beside["picture"]))

    def _refuse_uncaptioned(self, count: int) -> None:
        """ConfigError for a folder where not one picture has a caption, with what might hold them."""
        if self.reading.uncaptioned:
            return
        tables = [n for n in self.listing.files if kind_of(n) == "table"]
        others = Counter(suffix(n) for n in self.listing.files if kind_of(n) != "picture")
        seen = ", ".join(f"{n} {end or 'without suffix'}" for end, n in others.most_common(4))
        hint = f"; if they are in {tables[0]}, give that file as the source" if tables else ""
        raise ConfigError(
            f"{self.source}: {count} pictures and no caption; looked for metadata.jsonl, metadata.csv, "
            f"metadata.parquet and a .txt or .caption beside each picture; seen beside them: {seen or 'nothing'}{hint}"
            f" (daybreak caption {self.source} has them written; daybreak prepare --uncaptioned keeps them without)"
        )

    def _read_table(self, name: str) -> bool:
        """Takes in what a table says of pictures. False where it names none, and captions are not asked for."""
        place, folder = self._place(name), name.rpartition("/")[0]
        table = _read_parquet(place) if name.lower().endswith(".parquet") else read_text_table(place)
        self.notes += [(name, note) for note in table.notes]
        self.left += [(f"{name}, line {line}", "faulty line", f"line {line} {why}") for line, why in table.faults]
        columns = list(dict.fromkeys(c for _, row in table.rows for c in row))
        sample = [row for _, row in table.rows[:SAMPLED]]
        try:
            image = image_column(columns, sample, self.reading, place, lambda path: self._find(folder, path)[1])
        except NoImageColumnError:
            if not self.reading.uncaptioned:
                raise
            self.left.append((name, "ignored", "a table that names no picture"))
            return False
        others = [c for c in columns if c != image]
        captions = caption_columns(others, self.reading, place)
        if more := other_captions(others, captions, self.reading):
            self.notes.append((name, more_captions(captions, more)))
        missing = 0
        named_here: set[str] = set()
        for line, row in table.rows:
            where = row.get(image)
            if not isinstance(where, str) or not where.strip():
                self.left.append((f"{name}, line {line}", "faulty line", f"no {image}"))
                continue
            order = (folder, name, line)
            item: Item = {"key": where, "order": order, "notes": [], "captions": {}}
            if self._is_base64(where):
                item |= {"key": f"{name}, line {line}", "data": where}
            else:
                path, found, note = self._find(folder, where)
                missing += not found
                if path in self._named and path not in named_here:
                    self.left.append((f"{name}, line {line}", "ignored", f"{self._named[path]} names {path} too"))
                    continue
                self._named[path] = name
                named_here.add(path)
                item |= {"key": path, "place": path if _elsewhere(path) else self._place(path)}
                item["notes"] += [note] if note else []
            try:
                for column, source in captions.items():
                    item["captions"][column] = captions_in(row.get(source), self.reading.lines)
            except TextError as e:
                item["problem"] = str(e)
            self.items.append(item)
        if missing == len(table.rows) and self._only:
            self._refuse_missing(name, image, table)
        return True

    def _is_base64(self, where: str) -> bool:
        data = from_base64(where)
        return data is not None and is_picture(data)

    def _find(self, folder: str, where: str) -> tuple[str, bool, str | None]:
        """(path below the root, whether it is there, a note where it is written otherwise) of a path in a table."""
        if is_remote(where):
            return where, True, None
        if os.path.isabs(where):  # noqa: PTH117 - as the table writes it
            return where, path_in(Path("/"))(where), None
        slashed = where.replace("\\", "/")
        for path in dict.fromkeys(posixpath.normpath(posixpath.join(folder, w)) for w in (where, slashed)):
            if path in self.listing.files or self._on_disk(path):
                return path, True, None
            if len(close := self._folded.get(folded(path), [])) == 1:
                return close[0], True, f"the table writes its name {where!r}"
        return posixpath.normpath(posixpath.join(folder, slashed)), False, None

    def _on_disk(self, path: str) -> bool:
        """For a table that is given alone, and for paths that lead out of the source."""
        alone = not any(kind_of(n) == "picture" for n in self.listing.files)
        if is_remote(self.listing.root):
            return alone  # it will be seen when it is fetched
        return (alone or path.startswith("../")) and path_in(Path(self.listing.root))(path)

    def _refuse_missing(self, name: str, image: str, table: Table) -> None:
        """ConfigError where not one of the pictures that a table names is there, with where they might be."""
        first = str(table.rows[0][1].get(image))
        names = {n.rpartition("/")[2]: n for n in self.listing.files}
        other = names.get(first.replace("\\", "/").rpartition("/")[2])
        hint = f"; {other} is there: the paths have to be relative to {name}" if other else ""
        raise ConfigError(
            f"{self._place(name)}: none of the {len(table.rows)} pictures that it names is there, such as {first}{hint}"
        )

    def _place(self, name: str) -> str:
        return join(self.listing.root, name)


def _nearest(name: str, governed: dict[str, str]) -> str | None:
    folder = name
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in governed:
            return governed[folder]
    return None


def _elsewhere(path: str) -> bool:
    return is_remote(path) or os.path.isabs(path)  # noqa: PTH117 - as the table writes it


def more_captions(taken: dict[str, str], more: list[str]) -> str:
    """The note that a table has caption columns that were not asked for."""
    every = " ".join(f"--caption {c}" for c in [*taken.values(), *more])
    return (
        f"captions are taken from {', '.join(taken.values())}; {', '.join(more)} look like some too ({every} takes all)"
    )


def _read_parquet(place: str) -> Table:
    try:
        with open_binary(place) as file:
            rows = pq.read_table(file, partitioning=None).to_pylist()
    except (OSError, pa.ArrowException) as e:
        raise ConfigError(f"{place} cannot be read: {' '.join(str(e).split())[:200]}") from None
    if not rows:
        raise ConfigError(f"{place}: there is no row in it")
    return Table(rows=list(enumerate(rows, start=1)))


def holds_bytes(place: str) -> bool:
    """Whether a Parquet file has pictures in it, so that it is no table of names."""
    try:
        with open_binary(place) as file, pq.ParquetFile(file) as parquet:
            return any(_bytes_in(field.type) for field in parquet.schema_arrow)
    except (OSError, pa.ArrowException):
        return False


def _bytes_in(kind: Any) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _bytes_in(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_bytes_in(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
