"""One set of shards: any row's picture and captions, read and checked."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.pictures import DRAFT, MAX_PIXELS
from daybreak.data.places import join, read_bytes
from daybreak.data.shards.buckets import Bucket, crop_box
from daybreak.data.shards.cache import ShardFiles
from daybreak.data.shards.format import INDEX, OTHERS, ROWS, Index, read_rows, read_written

_ORIGINAL = ("original_width", "original_height")


class RowError(ValueError):
    """A row cannot be read; the message says why."""


def read_index(place: str) -> Index:
    """The index of a folder of shards. ConfigError where there is none or it is damaged."""
    where = join(place, INDEX)
    try:
        return Index.loads(read_bytes(where).decode(errors="replace"), where)
    except OSError as e:
        raise ConfigError(
            f"{place} holds no shards ({INDEX}: {e}): daybreak prepare {place} --out SHARDS makes them of pictures, "
            "with --uncaptioned also of those without a caption"
        ) from None


@dataclass(frozen=True)
class _Places:
    """Where encoded pictures lie in their shards, [N] each, and their checksums; what: a picture's name in messages."""

    what: str
    offset: np.ndarray
    length: np.ndarray
    crc32: np.ndarray


class ShardReader:
    """A set of shards. Safe to use from several threads.

    `rows` is the table of ROWS; `checks` tells each picture and its captions (`changes.py`; of sets that an older
    version made, pictures alone). Pictures are read by their place in the file and checked against their checksum;
    captions through pyarrow, a shard at a time. `copy_size` [N, 2] is width and height of the pictures' smaller copies,
    px; 0 where a set has none.
    """

    def __init__(self, place: str, cache: Path | None = None, cache_bytes: int = 0) -> None:
        self.place = place
        self.index = read_index(place)
        self.files = ShardFiles(place, cache, cache_bytes)
        try:
            self.rows: pa.Table = read_rows(place)
        except (OSError, pa.ArrowException) as e:
            raise ConfigError(f"{join(place, ROWS)} cannot be read: {' '.join(str(e).split())}") from None
        if len(self.rows) != self.index.rows:
            raise ConfigError(
                f"{join(place, ROWS)} has {len(self.rows)} rows and {INDEX} says {self.index.rows}: "
                "they are not of one set; run daybreak prepare again"
            )
        column = {name: self.rows[name].to_numpy() for name in self.rows.column_names}
        self.shard, self.row = column["shard"], column["row"]
        self.width, self.height, self.captioned = column["width"], column["height"], column["captioned"]
        self._pictures = _Places("picture", column["offset"], column["length"], column["crc32"])
        self._copies: _Places | None = None
        self.copy_size = np.zeros((len(self.rows), 2), np.int32)
        if "copy_offset" in column:
            self._copies = _Places("copy", column["copy_offset"], column["copy_length"], column["copy_crc32"])
            self.copy_size = np.stack([column["copy_width"], column["copy_height"]], axis=1)
        captions = column.get("captions_crc32", np.zeros(len(self.rows), np.int64))
        self.checks = np.stack([self._pictures.crc32, captions], axis=1).astype(np.uint32)
        # Unbounded caches would hold a file handle for each of many thousand shards.
        self._open = lru_cache(maxsize=256)(self._open_shard)
        self._captions = lru_cache(maxsize=64)(self._read_captions)
        self._originals = lru_cache(maxsize=64)(self._read_originals)

    def __len__(self) -> int:
        return self.index.rows

    def rows_of(self, shard: int) -> range:
        """The rows that lie in a shard."""
        first = int(np.searchsorted(self.shard, shard))
        return range(first, first + self.index.shards[shard].rows)

    def name(self, i: int) -> str:
        """Where row i lies, for messages."""
        return f"{join(self.place, self.index.shards[self.shard[i]].file)}, row {self.row[i]}"

    def missing(self) -> list[tuple[str, str, int]]:
        """(file, reason, rows) of local shards that are absent or not as long as they should be."""
        bad = []
        for shard in self.index.shards if self.files.folder is None else []:
            path = Path(self.place, shard.file)
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                reason = "no such file" if size is None else f"{size} bytes long, should be {shard.bytes}"
                bad.append((str(path), reason, shard.rows))
        return bad

    def picture_bytes(self, i: int) -> bytes:
        """The encoded picture of row i; RowError where the file is not what it was."""
        return self._read(self._pictures, i)

    def copy_bytes(self, i: int) -> bytes | None:
        """The encoded smaller copy of row i's picture, where the set has copies. Raises RowError."""
        return None if self._copies is None else self._read(self._copies, i)

    def bytes_of(self, i: int) -> tuple[int, int]:
        """How many bytes row i's encoded picture has, and its smaller copy."""
        return int(self._pictures.length[i]), 0 if self._copies is None else int(self._copies.length[i])

    def picture(self, i: int, bucket: Bucket) -> Image.Image:
        """The picture of row i, RGB and of the bucket's size. Raises RowError."""
        return _decode(self.picture_bytes(i), bucket)

    def copy(self, i: int, bucket: Bucket) -> Image.Image | None:
        """The same from its smaller copy; None where there is none that covers the bucket. Raises RowError."""
        if self._copies is None or not (self.copy_size[i] >= bucket).all():
            return None
        return _decode(self._read(self._copies, i), bucket)

    def _read(self, places: _Places, i: int) -> bytes:
        length = int(places.length[i])
        try:
            file = self._open(int(self.shard[i]))
            data = os.pread(file.fileno(), length, int(places.offset[i]))
        except OSError as e:
            raise RowError(f"the shard cannot be read: {e.strerror or e}") from None
        if len(data) < length:
            raise RowError("the shard is cut off before this row's end")
        if zlib.crc32(data) != places.crc32[i]:
            raise RowError(f"the {places.what}'s checksum is wrong")
        return data

    def captions(self, i: int) -> dict[str, str]:
        """Caption column -> caption of row i, of several the first; those that are not empty. Raises RowError."""
        return {name: texts[0] for name, texts in self.all_captions(i).items()}

    def all_captions(self, i: int) -> dict[str, list[str]]:
        """Caption column -> captions of row i, those that are not empty. Raises RowError."""
        try:
            columns = self._captions(int(self.shard[i]))
        except (OSError, pa.ArrowException) as e:
            raise RowError(f"the shard cannot be read: {' '.join(str(e).split())}") from None
        row = int(self.row[i])
        found = {name: [text] for name in self.index.captions if (text := columns[name][row].as_py())}
        for name in found:
            if name + OTHERS in columns:
                found[name] += columns[name + OTHERS][row].as_py() or []
        return found

    def original_size(self, i: int) -> tuple[int, int] | None:
        """Width and height of row i's picture before it was stored, px; None where the shard does not say."""
        columns = self._originals(int(self.shard[i]))
        return None if columns is None else (columns[0][int(self.row[i])], columns[1][int(self.row[i])])

    def _read_originals(self, shard: int) -> tuple[list[int], list[int]] | None:
        with pq.ParquetFile(self.files.local(self.index.shards[shard].file)) as parquet:
            if not set(_ORIGINAL) <= set(parquet.schema_arrow.names):
                return None
            table = parquet.read(columns=list(_ORIGINAL))
        return table[_ORIGINAL[0]].to_pylist(), table[_ORIGINAL[1]].to_pylist()

    def _open_shard(self, shard: int) -> IO[bytes]:
        return self.files.local(self.index.shards[shard].file).open("rb", buffering=0)

    def _read_captions(self, shard: int) -> dict[str, pa.ChunkedArray]:
        own = [name for name in self.index.captions if name not in self.index.written]
        with pq.ParquetFile(self.files.local(self.index.shards[shard].file)) as parquet:
            several = [name + OTHERS for name in own if name + OTHERS in parquet.schema_arrow.names]
            table = parquet.read(columns=[*own, *several])
        columns = {name: table[name] for name in [*own, *several]}
        for name in self.index.written:
            columns[name] = read_written(str(self.files.local(self.index.caption_file(name, shard))), name)
        return columns


def _decode(data: bytes, bucket: Bucket) -> Image.Image:
    try:
        return decode_to_bucket(data, bucket)
    except RowError:
        raise
    except Exception as e:  # PIL's decoders raise whatever they stumble on
        raise RowError(f"not a readable picture: {' '.join(str(e).split()) or type(e).__name__}") from None


def decode_to_bucket(data: bytes, bucket: Bucket) -> Image.Image:
    """A stored picture scaled to cover `bucket` and centre-cropped to it: RGB.

    JPEG is decoded at 1/2, 1/4 or 1/8 where that is at least DRAFT times the bucket. Where it is exactly half of the
    stored size, as shards of 1024 px in a run of 512 px, the decoder does it all: 2.14 of 255 from a Lanczos filter on
    the original, where JPEG q92 decoded whole comes out at 2.02 with that filter and 2.04 with means of 2 x 2. It takes
    2.0 ms, and they 12.4 and 3.2.
    """
    image = Image.open(io.BytesIO(data))
    if image.width * image.height > MAX_PIXELS:
        raise RowError(f"{image.width}x{image.height} px is more than {MAX_PIXELS // 10**6} megapixels")
    twice = (DRAFT * bucket[0], DRAFT * bucket[1])
    image.draft("RGB", bucket if image.size == twice else twice)
    image.load()
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if rgb.size != bucket:
        rgb = rgb.resize(bucket, Image.Resampling.LANCZOS, box=crop_box(*rgb.size, bucket))
    return rgb
