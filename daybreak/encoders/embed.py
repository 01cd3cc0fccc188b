"""`daybreak embed`: a frozen text encoder's features of all captions, beside the shards, so training need not ask it.

`--data.embeddings NAME` trains with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daybreak.config import ConfigError
from daybreak.data.places import exists, join, read_bytes, write_atomically
from daybreak.data.shards.embedding_files import embedding_file
from daybreak.data.shards.reader import ShardReader
from daybreak.encoders.settings import EmbedSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class EmbedJob:
    """What a worker needs to embed shards of `place`."""

    place: str
    asked: EmbedSettings

    def reader(self) -> ShardReader:
        """The shards."""
        return ShardReader(self.place, self.asked.work.cache, cache_bytes=2**62)

    def left(self, reader: ShardReader, shard: int) -> list[str]:
        """The caption columns of a shard whose file is not there yet."""
        names = {c: embedding_file(self.asked.name, shard, c) for c in reader.index.captions}
        return [column for column, file in names.items() if not exists(join(self.place, file))]

    def check(self, width: int | None) -> None:
        """ConfigError where features of that name were begun in another way; `width` none: not known yet."""
        stamp = join(self.place, "embeddings", self.asked.name, "how.json")
        how: dict[str, Any] = {n: getattr(self.asked, n) for n in ("model", "revision", "max_tokens", "dtype")}
        how["width"] = width
        if exists(stamp):
            begun = json.loads(read_bytes(stamp))
            if begun != how | ({"width": begun.get("width")} if width is None else {}):
                raise ConfigError(
                    f"{stamp}: the embeddings {self.asked.name} were begun in another way; choose another --name"
                )
        elif width is not None:
            write_atomically(stamp, json.dumps(how, indent=1).encode())

    def open(self, device: torch.device) -> Callable[[int], int]:
        """Loads the encoder; what comes back embeds a shard and returns the bytes written."""
        # Imported here: what is wrong with the command is told before torch loads.
        from safetensors.torch import save

        from daybreak.encoders.features import features
        from daybreak.encoders.text import open_text_encoder

        reader, encoder = self.reader(), open_text_encoder(self.asked.text, asked_by="--model").to(device)
        self.check(encoder.width)

        def embed(shard: int) -> int:
            written = 0
            for column in self.left(reader, shard):
                captions = [reader.all_captions(row).get(column, []) for row in reader.rows_of(shard)]
                data = save(features(encoder, captions, self.asked.batch, self.asked.dtype))
                write_atomically(join(self.place, embedding_file(self.asked.name, shard, column)), data)
                written += len(data)
            return written

        return embed


def write_embeddings(place: str, asked: EmbedSettings, progress: Callable[[int, int], None]) -> int:
    """Embeds all captions of shards; returns the bytes written. See `run_on_shards` for workers and engines.

    Raises ConfigError where other features of that name are there.
    """
    if not asked.name.isidentifier():
        raise ConfigError(f"--name {asked.name} is no plain name; choose one of letters, digits and underscores")
    job = EmbedJob(place, asked)
    reader = job.reader()
    job.check(None)
    shards = len(reader.index.shards)
    left = [s for s in range(shards) if job.left(reader, s)]
    from daybreak.data.engines.models import run_on_shards

    return sum(run_on_shards(job, left, shards, asked.work, progress))
