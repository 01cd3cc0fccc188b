"""What lies in a folder of shards; docs/data_format.md says it in words.

index.json                       settings, buckets, captions, shards: written last, so a folder with it is complete
rows.arrow                       one line a picture: shard, row, where its bytes lie, checksum, size
data/train-00000-of-00012.parquet
dropped.jsonl  notes.jsonl       what was left out, and what was changed, each with its reason
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daybreak.config import ConfigError
from daybreak.data.places import exists, join, read_bytes, write_atomically

VERSION = 1
INDEX, ROWS, DROPPED, NOTES = "index.json", "rows.arrow", "dropped.jsonl", "notes.jsonl"
_ROWS_BEFORE = "rows.parquet"
"""What ROWS was called until tools that read every .parquet below a folder were seen to count each picture twice."""
WRITTEN_KIND = "arrow"
"""Kind of the files that `daybreak caption` writes; before it was parquet, for the same reason as ROWS."""
OTHERS = "_others"
"""Beside a caption column NAME stands NAME_others: the row's further captions of that name."""
COPY = "image_copy"
"""The column of the pictures' smaller copies, in sets that have them."""
ROW_GROUP = 100
"""Pictures a row group: what other readers fetch at once."""

_ROW_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
        ("crc32", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captioned", pa.bool_()),
        ("captions_crc32", pa.int64()),
    ]
)
_COPY_SCHEMA = pa.schema(
    [
        ("copy_offset", pa.int64()),
        ("copy_length", pa.int32()),
        ("copy_crc32", pa.int64()),
        ("copy_width", pa.int32()),
        ("copy_height", pa.int32()),
    ]
)


def row_schema(copies: bool) -> pa.Schema:
    """The columns of ROWS; copies: of a set whose pictures have smaller copies."""
    return pa.unify_schemas([_ROW_SCHEMA, _COPY_SCHEMA]) if copies else _ROW_SCHEMA


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name below the folder, its rows, its bytes."""

    file: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Index:
    """What index.json holds.

    size, patch, max_ratio: the prepared buckets, see `buckets.bucket_sizes`. captions: column name -> weight.
    settings: everything else that the shards were made with; `copies`, where there are any: the side of the square
    around which their shapes lie (px), and their bytes in all. dropped: reason -> how many. written: caption
    columns that `daybreak caption` wrote, which lie beside the shards -> how, and the kind of their files.
    """

    size: int
    patch: int
    max_ratio: float
    captions: dict[str, float]
    shards: list[Shard]
    rows: int
    dropped: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def caption_file(self, name: str, shard: int) -> str:
        """Where the captions NAME that a model wrote for a shard lie."""
        return caption_file(name, shard, self.written[name].get("files", "parquet"))

    def dumps(self) -> str:
        """As JSON, the same text for the same content."""
        return json.dumps({"format": "daybreak shards", **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def loads(cls, text: str, where: str) -> Index:
        """From JSON; ConfigError, naming `where`, for anything else."""
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw.pop("format") != "daybreak shards":
                raise KeyError
            version = raw["version"]
            if version != VERSION:
                raise ConfigError(f"{where} has version {version} of the format; this daybreak reads {VERSION}")
            raw["shards"] = [Shard(**s) for s in raw["shards"]]
            return cls(**raw)
        except ConfigError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(f"{where} is no index of daybreak shards, or is damaged") from None


def read_rows(place: str) -> pa.Table:
    """The table of ROWS. Raises OSError or ArrowException."""
    if not exists(join(place, ROWS)) and exists(join(place, _ROWS_BEFORE)):
        return pq.read_table(pa.BufferReader(read_bytes(join(place, _ROWS_BEFORE))))
    return _read_arrow(read_bytes(join(place, ROWS)))


def write_rows(place: str, rows: pa.Table) -> None:
    """Writes ROWS."""
    write_arrow(join(place, ROWS), rows)


def write_arrow(place: str, table: pa.Table) -> None:
    """Writes an Arrow file, which a reader that looks for .parquet does not take for pictures."""
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_file(buffer, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    write_atomically(place, buffer.getvalue().to_pybytes())


def read_dropped(place: str) -> list[dict[str, str]]:
    """What was left out of a set of shards: key, kind, reason; nothing where the list is gone."""
    try:
        text = read_bytes(join(place, DROPPED)).decode("utf-8")
    except OSError:
        return []
    return [json.loads(line) for line in text.split("\n") if line]


def shard_name(number: int, of: int) -> str:
    """data/train-00003-of-00012.parquet: the pattern in which other readers find the split."""
    return f"data/train-{number:05d}-of-{of:05d}.parquet"


def caption_file(name: str, shard: int, kind: str = WRITTEN_KIND) -> str:
    """captions/NAME/00003.arrow: the captions that a model wrote for a shard, row by row."""
    return f"captions/{name}/{shard:05d}.{kind}"


def read_written(place: str, name: str) -> pa.ChunkedArray:
    """The captions NAME in a caption file, row by row. Raises OSError or ArrowException."""
    content = read_bytes(place)
    if content.startswith(b"PAR1"):
        return pq.read_table(pa.BufferReader(content), columns=[name])[name]
    return _read_arrow(content)[name]


def _read_arrow(content: bytes) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


def row_captions(row: dict[str, Any], columns: list[str]) -> list[str]:
    """All captions of a shard's row, column by column."""
    found = [text for name in columns for text in [row[name], *(row[name + OTHERS] or [])]]
    return [text for text in found if text]


def shard_schema(captions: list[str], copies: bool) -> pa.Schema:
    """The columns of a shard, with the note by which `datasets` decodes the pictures, but no copy beside them."""
    columns = [
        ("key", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *[(name, pa.string()) for name in captions],
        *[(name + OTHERS, pa.list_(pa.string())) for name in captions],
        *[("width", pa.int32()), ("height", pa.int32()), ("bucket", pa.string())],
        *[("original_width", pa.int32()), ("original_height", pa.int32())],
        *[("sha256", pa.string()), ("phash", pa.string())],
        *([(COPY, pa.binary())] if copies else []),
    ]
    features: dict[str, Any] = {
        name: {"dtype": str(kind), "_type": "Value"}
        for name, kind in columns
        if not (pa.types.is_struct(kind) or pa.types.is_list(kind))
    }
    strings = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    features |= {name: strings for name, kind in columns if pa.types.is_list(kind)}
    features = {name: features.get(name, {"_type": "Image"}) for name, _ in columns}
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Pictures as they are and in one piece, so that their place in the file can be told; the rest compressed."""
    plain = ["image.bytes", COPY]
    others = [c for c in _leaves(schema) if c not in plain]
    return pq.ParquetWriter(
        path,
        schema,
        compression={c: "none" if c in plain else "zstd" for c in _leaves(schema)},
        use_dictionary=["bucket"],
        write_statistics=[c for c in others if c != "image.path"],
        data_page_version="1.0",
    )


def _leaves(schema: pa.Schema) -> list[str]:
    names = []
    for f in schema:
        if pa.types.is_list(f.type):
            names.append(f"{f.name}.list.element")
        else:
            names += [f"{f.name}.{c.name}" for c in f.type] if pa.types.is_struct(f.type) else [f.name]
    return names


def locate_pictures(path: Path, column: str = "image.bytes") -> list[tuple[int, int, int]]:
    """(offset, length, crc32) of each row's picture in a shard, or of what another column without gaps holds.

    A column without compression and dictionary is pages of [4-byte length, bytes] in a row, so the values are found in
    their order. Raises ValueError where one is not: the file was not written by `open_writer`.
    """
    places = []
    with pq.ParquetFile(path) as parquet, path.open("rb") as file:
        number = next(i for i in range(parquet.metadata.num_columns) if parquet.schema.column(i).path == column)
        for group in range(parquet.num_row_groups):
            chunk = parquet.metadata.row_group(group).column(number)
            file.seek(chunk.data_page_offset)
            raw = file.read(chunk.total_compressed_size)
            at = 0
            values = parquet.read_row_group(group, columns=[column]).flatten().column(0)
            for value in values:
                data = value.as_py()
                at = raw.find(struct.pack("<I", len(data)) + data, at)
                if at < 0:
                    raise ValueError(f"{path}: a picture does not lie in one piece")
                places.append((chunk.data_page_offset + at + 4, len(data), zlib.crc32(data)))
                at += 4 + len(data)
    return places
