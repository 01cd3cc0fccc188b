"""The reader of the text features that lie beside shards (embedding_files.py)."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from daybreak.config import ConfigError, TextConfig
from daybreak.data.places import exists, join, read_bytes
from daybreak.data.shards.embedding_files import Embedding, embedding_file
from daybreak.data.shards.reader import RowError, ShardReader


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
        """How many of a row's captions in a column have features: always the first ones. Raises RowError."""
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
