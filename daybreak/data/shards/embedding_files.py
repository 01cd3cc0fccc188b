"""Text features beside shards, a safetensors file a shard: tokens of all captions in a row, and where each ends.

    SHARDS/embeddings/NAME/00003-caption.safetensors   tokens [N, C], ends [captions], rows [rows], scales [N] (fp8)
    SHARDS/embeddings/NAME/how.json                    model, revision, longest caption, number format, width

Tokens are stored without padding, caption after caption: `ends` says where each caption's end, `rows` how many captions
there are up to the end of each row. Files of older versions have no `rows` and the first caption of each row. A file
is written when its shard is done: killed, the same command goes on with the next.
"""

from __future__ import annotations

from dataclasses import dataclass


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
