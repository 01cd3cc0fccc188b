"""Text features beside shards, a safetensors file a shard: tokens of all captions in a row, and where each ends."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from daybreak.config import ConfigError, TextConfig
from daybreak.data.embed import Embedding, embedding_file
from daybreak.data.places import exists, join, read_bytes
from daybreak.data.shards.reader import RowError, ShardReader
from daybreak.encoders.text import TextEncoder

FP8_MAX = 448.0
"""Largest number of float8_e4m3fn."""
DTYPES = {"bfloat16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


def features(encoder: TextEncoder, captions: list[str], batch: int, dtype: str) -> dict[str, Tensor]:
    """What a file holds: the tokens of all captions in a row, where each caption ends."""
    parts, ends, at = [], [], 0
    for start in range(0, len(captions), batch):
        text = encoder(captions[start : start + batch])
        for row, mask in zip(text.embeddings.cpu(), text.mask.cpu(), strict=True):
            parts.append(row[mask])
            at += len(parts[-1])
            ends.append(at)
    tokens = torch.cat(parts)
    tensors = {"ends": torch.tensor(ends, dtype=torch.int64)}
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

    def tokens(self, row: int, column: str) -> Tensor:
        """[L, C] float32, the tokens of a row's caption. Raises RowError."""
        try:
            file, ends = self._open(int(self.shards.shard[row]), column)
            i = int(self.shards.row[row])
            a, b = (int(ends[i - 1]) if i else 0), int(ends[i])
            tokens: Tensor = file.get_slice("tokens")[a:b].float()
            if self.how.dtype == "fp8":
                tokens = tokens * file.get_slice("scales")[a:b][:, None]
            return tokens
        except (OSError, SafetensorError, IndexError) as e:
            raise RowError(f"its embedding cannot be read: {' '.join(str(e).split())}") from None

    def _open_file(self, shard: int, column: str) -> tuple[Any, Tensor]:
        path = self.shards.files.local(embedding_file(self.name, shard, column))
        file = safe_open(path, framework="pt")
        return file, file.get_tensor("ends")
