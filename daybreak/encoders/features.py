"""From captions to what a file of text features holds (data/shards/embeddings.py)."""

from __future__ import annotations

import torch
from torch import Tensor

from daybreak.encoders.text import TextEncoder

FP8_MAX = 448.0
"""Largest number of float8_e4m3fn."""
DTYPES = {"bfloat16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


def features(encoder: TextEncoder, of_rows: list[list[str]], batch: int, dtype: str) -> dict[str, Tensor]:
    """What a file holds of each row's captions: the tokens of all in a row, where each caption ends, where each row."""
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
