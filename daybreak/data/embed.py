"""`daybreak embed`: a frozen text encoder's features of all captions, beside the shards, so training need not ask it.

    SHARDS/embeddings/NAME/00003-caption.safetensors   tokens [N, C], ends [captions], rows [rows], scales [N] (fp8)
    SHARDS/embeddings/NAME/how.json                    model, revision, longest caption, number format, width

Tokens are stored without padding, caption after caption: `ends` says where each caption's end, `rows` how many captions
there are up to the end of each row. Files of older versions have no `rows` and the first caption of each row. A file
is written when its shard is done: killed, the same command goes on with the next. `--data.embeddings NAME` trains with
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from daybreak.config import ConfigError, TextConfig
from daybreak.data.engines.models import run_on_models
from daybreak.data.engines.tasks import Engine
from daybreak.data.places import exists, join, read_bytes, write_atomically
from daybreak.data.shards.reader import RowError, ShardReader
from daybreak.encoders.text import TextEncoder, open_text_encoder

FP8_MAX = 448.0
"""Largest number of float8_e4m3fn."""
DTYPES = {"bfloat16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


@dataclass(frozen=True)
class Embedding:
    """How features are made; another value of any field is another set of them."""

    model: str
    revision: str | None
    max_tokens: int
    dtype: str
    width: int


def embedding_file(name: str, shard: int, column: str) -> str:
    """embeddings/NAME/00003-COLUMN.safetensors: features of one shard's captions of one column."""
    return f"embeddings/{name}/{shard:05d}-{column}.safetensors"


@dataclass(frozen=True)
class EmbedJob:
    """What a worker needs to embed shards of `place` with text.pretrained, `batch` captions at once."""

    place: str
    name: str
    text: TextConfig
    dtype: str
    batch: int
    cache: Path | None

    def reader(self) -> ShardReader:
        """The shards."""
        return ShardReader(self.place, self.cache, cache_bytes=2**62)

    def left(self, reader: ShardReader, shard: int) -> list[str]:
        """The caption columns of a shard whose file is not there yet."""
        names = {c: embedding_file(self.name, shard, c) for c in reader.index.captions}
        return [column for column, file in names.items() if not exists(join(self.place, file))]

    def check(self, width: int | None) -> None:
        """ConfigError where features of that name were begun in another way; `width` none: not known yet."""
        stamp = join(self.place, "embeddings", self.name, "how.json")
        how = {"model": self.text.pretrained, "revision": self.text.revision, "max_tokens": self.text.max_tokens,
               "dtype": self.dtype, "width": width}  # fmt: skip
        if exists(stamp):
            begun = json.loads(read_bytes(stamp))
            if begun != how | ({"width": begun.get("width")} if width is None else {}):
                raise ConfigError(
                    f"{stamp}: the embeddings {self.name} were begun in another way; choose another --name"
                )
        elif width is not None:
            write_atomically(stamp, json.dumps(how, indent=1).encode())

    def open(self, device: torch.device) -> Callable[[int], int]:
        """Loads the encoder; what comes back embeds a shard and returns the bytes written."""
        reader, encoder = self.reader(), open_text_encoder(self.text).to(device)
        self.check(encoder.width)

        def embed(shard: int) -> int:
            written = 0
            for column in self.left(reader, shard):
                captions = [reader.all_captions(row).get(column, []) for row in reader.rows_of(shard)]
                data = save(_tensors(encoder, captions, self.batch, self.dtype))
                write_atomically(join(self.place, embedding_file(self.name, shard, column)), data)
                written += len(data)
            return written

        return embed


def write_embeddings(job: EmbedJob, workers: int | None, engine: Engine, progress: Callable[[int, int], None]) -> int:
    """Embeds all captions of the shards; returns the bytes written. See `run_on_models` for workers and engines.

    Raises ConfigError where other features of that name are there.
    """
    if not job.name.isidentifier():
        raise ConfigError(f"--name {job.name} is no plain name; choose one of letters, digits and underscores")
    reader = job.reader()
    job.check(None)
    shards = len(reader.index.shards)
    left = [s for s in range(shards) if job.left(reader, s)]
    done, written = shards - len(left), 0
    progress(done, shards)
    for size in run_on_models(job, left, workers, engine):
        done, written = done + 1, written + size
        progress(done, shards)
    return written


def _tensors(encoder: TextEncoder, of_rows: list[list[str]], batch: int, dtype: str) -> dict[str, Tensor]:
    """What a file holds of the captions of each row."""
    captions = [text for texts in of_rows for text in texts]
    parts, ends, at = [torch.empty(0, encoder.width)], [], 0
    for start in range(0, len(captions), batch):
        text = encoder(captions[start : start + batch])
        for row, mask in zip(text.embeddings.cpu(), text.mask.cpu(), strict=True):
            parts.append(row[mask])
            at += len(parts[-1])
            ends.append(at)
    tokens = torch.cat(parts)
    rows = torch.tensor([len(texts) for texts in of_rows], dtype=torch.int64).cumsum(0)
    tensors = {"ends": torch.tensor(ends, dtype=torch.int64), "rows": rows}
    if dtype == "fp8":
        scales = tokens.abs().amax(1).clamp(min=1e-12) / FP8_MAX
        tokens, tensors["scales"] = tokens / scales[:, None], scales
    return tensors | {"tokens": tokens.to(DTYPES[dtype]).contiguous()}


class EmbeddingReader:
    """Features of a set of shards' captions. Safe to use from several threads."""

    def __init__(self, shards: ShardReader, name: str, text: TextConfig) -> None:
        """Raises ConfigError where there are none, or where they are of another encoder, revision or length."""
        self.shards, self.name = shards, name
        where = join(shards.place, "embeddings", name, "how.json")
        try:
            self.how = Embedding(**json.loads(read_bytes(where)))
        except (OSError, ValueError, TypeError):
            raise ConfigError(
                f"data.embeddings is {name}: {where} is missing or damaged; "
                f"daybreak embed {shards.place} --model {text.pretrained} --name {name} makes it"
            ) from None
        for setting, wanted in (
            ("model", text.pretrained),
            ("revision", text.revision),
            ("max_tokens", text.max_tokens),
        ):
            if (got := getattr(self.how, setting)) != wanted:
                key = "pretrained" if setting == "model" else setting
                raise ConfigError(
                    f"data.embeddings {name} of {shards.place} are of {setting} {got}, the run has text.{key} "
                    f"{wanted}: embed the shards with it under another --name, or set it to the embeddings'"
                )
        for column in shards.index.captions:
            last = embedding_file(name, len(shards.index.shards) - 1, column)
            if not exists(join(shards.place, last)):
                raise ConfigError(
                    f"data.embeddings {name}: {join(shards.place, last)} is missing; the same daybreak embed goes on"
                )
        self._open = lru_cache(maxsize=256)(self._open_file)

    def count(self, row: int, column: str) -> int:
        """How many of a row's captions in a column have features: the first so many. Raises RowError."""
        with _readable():
            first, end = self._captions(row, column)
            return end - first

    def tokens(self, row: int, column: str, which: int = 0) -> Tensor:
        """[L, C] float32, the tokens of a row's caption number `which` in a column. Raises RowError."""
        with _readable():
            file, ends, _ = self._open(int(self.shards.shard[row]), column)
            i = self._captions(row, column)[0] + which
            a, b = (int(ends[i - 1]) if i else 0), int(ends[i])
            tokens: Tensor = file.get_slice("tokens")[a:b].float()
            if self.how.dtype == "fp8":
                tokens = tokens * file.get_slice("scales")[a:b][:, None]
            return tokens

    def _captions(self, row: int, column: str) -> tuple[int, int]:
        """The numbers of a row's captions in their file: the first, and the one behind the last."""
        _, _, rows = self._open(int(self.shards.shard[row]), column)
        i = int(self.shards.row[row])
        return (int(rows[i - 1]) if i else 0), int(rows[i])

    def _open_file(self, shard: int, column: str) -> tuple[Any, Tensor, Tensor]:
        path = self.shards.files.local(embedding_file(self.name, shard, column))
        file = safe_open(path, framework="pt")
        ends = file.get_tensor("ends")
        rows = file.get_tensor("rows") if "rows" in set(file.keys()) else torch.arange(1, len(ends) + 1)
        return file, ends, rows


@contextmanager
def _readable() -> Generator[None]:
    try:
        yield
    except (OSError, SafetensorError, IndexError) as e:
        raise RowError(f"its embedding cannot be read: {' '.join(str(e).split())}") from None
