"""`daybreak caption`: captions for shards by a vision–language model, beside the shards and never in place of anything.

    SHARDS/captions/NAME/00000.arrow       key and caption of each row of shard 0, in its order
    index.json                             then lists NAME among the caption columns

A file is written when its shard is done, the index when all are: killed, the same command goes on with the next shard.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.changes import captions_check
from daybreak.data.places import exists, join, read_bytes, write_atomically
from daybreak.data.settings import Captioning, CaptionSettings
from daybreak.data.shards.format import INDEX, WRITTEN_KIND, caption_file, read_written, write_arrow, write_rows
from daybreak.data.shards.reader import RowError, ShardReader
from daybreak.data.trigger import triggered

if TYPE_CHECKING:
    import torch

    from daybreak.data.captioner import Captioner


@dataclass(frozen=True)
class CaptionJob:
    """What a worker needs to write captions of shards at `place`."""

    place: str
    asked: CaptionSettings

    def reader(self) -> ShardReader:
        """The shards."""
        return ShardReader(self.place, self.asked.work.cache, cache_bytes=2**62)

    def target(self, shard: int) -> str:
        """Where the captions of a shard are written."""
        return join(self.place, caption_file(self.asked.name, shard))

    def check(self, reader: ShardReader) -> None:
        """ConfigError where the name is taken."""
        if not self.asked.name.isidentifier() or self.asked.name in set(pq_columns(reader)) - set(reader.index.written):
            raise ConfigError(
                f"--name {self.asked.name} is taken by a column of the shards, or is no plain name; choose another"
            )
        stamp, text = self._stamp()
        if exists(stamp) and read_bytes(stamp) != text:
            named = f"{stamp}: the captions {self.asked.name}"
            raise ConfigError(f"{named} were begun with another model or prompt; choose another --name")

    def _stamp(self) -> tuple[str, bytes]:
        """The file by which the name is this job's, and what it says."""
        text = json.dumps(self.asked.how.told(), indent=1)
        return join(self.place, "captions", self.asked.name, "how.json"), text.encode()

    def open(self, device: torch.device) -> Callable[[int], int]:
        """Loads the model; what comes back describes a shard's pictures and returns how many."""
        from daybreak.data.captioner import Captioner  # here: what is wrong with the command is told before torch loads

        how = self.asked.how
        reader = self.reader()
        captioner = Captioner(how.model, how.revision, how.prompt, how.max_tokens, device)
        write_atomically(*self._stamp())  # the name is taken by a model that can be loaded, and by none that cannot

        def describe(shard: int) -> int:
            rows = reader.rows_of(shard)
            captions: list[str | None] = []
            for at in range(0, len(rows), self.asked.batch):
                captions += _describe(captioner, reader, rows[at : at + self.asked.batch], how.trigger)
            path = reader.files.local(reader.index.shards[shard].file)
            keys = pq.read_table(path, columns=["key"], partitioning=None)["key"]
            write_arrow(self.target(shard), pa.table({"key": keys, self.asked.name: pa.array(captions, pa.string())}))
            return len(rows)

        return describe


def write_captions(place: str, asked: CaptionSettings, progress: Callable[[int, int], None]) -> int:
    """Writes captions of all shards; returns how many rows got one. See `run_on_shards` for workers and engines.

    Raises ConfigError where other captions of that name are there.
    """
    job = CaptionJob(place, asked)
    reader = job.reader()
    job.check(reader)
    shards = len(reader.index.shards)
    left = [s for s in range(shards) if not exists(job.target(s))]
    from daybreak.data.engines.models import run_on_shards

    list(run_on_shards(job, left, shards, asked.work, progress))
    return _register(reader, asked.name, asked.how, asked.weight)


def pq_columns(reader: ShardReader) -> list[str]:
    """The shards' own columns."""
    return list(pq.read_schema(reader.files.local(reader.index.shards[0].file)).names)


def _describe(captioner: Captioner, reader: ShardReader, rows: range, trigger: str | None) -> list[str | None]:
    """Captions of some rows; none for a row that cannot be read, which training tells of."""
    pictures: dict[int, Image.Image] = {}
    for row in rows:
        try:
            pictures[row] = Image.open(io.BytesIO(reader.picture_bytes(row))).convert("RGB")
        except (RowError, OSError):
            continue
    answers = dict(zip(pictures, captioner.describe(list(pictures.values())) if pictures else [], strict=True))
    texts = [answers.get(row) or None for row in rows]
    return [triggered(text, trigger) if text and trigger else text for text in texts]


def _with(table: pa.Table, name: str, column: pa.ChunkedArray | pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def _register(reader: ShardReader, name: str, how: Captioning, weight: float) -> int:
    """Tells the row table which rows have a caption now, and then the index where it stands."""
    files = [read_written(join(reader.place, caption_file(name, s)), name) for s in range(len(reader.index.shards))]
    has = pa.chunked_array([pc.is_valid(c) for f in files for c in f.chunks], pa.bool_())
    rows = _with(reader.rows, "captioned", pc.or_(reader.rows["captioned"], has))
    if "captions_crc32" in rows.column_names:
        texts = (text for f in files for text in f.to_pylist())
        before = rows["captions_crc32"].to_pylist()
        checks = [captions_check([text] if text else [], b) for text, b in zip(texts, before, strict=True)]
        rows = _with(rows, "captions_crc32", pa.array(checks, pa.int64()))
    write_rows(reader.place, rows)
    index = dataclasses.replace(
        reader.index,
        captions={**reader.index.captions, name: weight},
        written={**reader.index.written, name: {**how.told(), "files": WRITTEN_KIND}},
    )
    write_atomically(join(reader.place, INDEX), index.dumps().encode())
    return int(pc.sum(has).as_py() or 0)
