"""The text encoder as the parts of a diffusers pipeline: transformers' network and tokenizer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from daybreak.encoders.text import TextEncoder
from daybreak.encoders.tokenizer import END, PAD, UNKNOWN


def to_transformers(text_encoder: TextEncoder, dtype: torch.dtype) -> tuple[Any, Any]:
    """(network, tokenizer), copies on the CPU, weights as `dtype`."""
    import copy

    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    if text_encoder.frozen:
        return copy.deepcopy(text_encoder.network).to("cpu", dtype), text_encoder.tokenizer
    shape = text_encoder.network.config
    network: Any = T5EncoderModel(T5Config(**asdict(shape), dropout_rate=0.0, use_cache=False))
    weights = {k: v.detach().cpu() for k, v in text_encoder.network.state_dict().items()}
    network.load_state_dict(weights)
    text_encoder.tokenizer.tokenizer.no_truncation()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=text_encoder.tokenizer.tokenizer, model_max_length=text_encoder.max_tokens, pad_token=PAD,
        eos_token=END, unk_token=UNKNOWN, padding_side="right", truncation_side="right",
    )  # fmt: skip
    return network.to(dtype).eval(), tokenizer


def save_text(text_encoder: TextEncoder, folder: Path, dtype: torch.dtype) -> dict[str, list[str]]:
    """Writes `tokenizer/` and `text_encoder/` below `folder`; what a model_index.json says of them."""
    network, tokenizer = to_transformers(text_encoder, dtype)
    tokenizer.save_pretrained(folder / "tokenizer")
    network.save_pretrained(folder / "text_encoder")
    return {
        "text_encoder": ["transformers", type(network).__name__],
        "tokenizer": ["transformers", type(tokenizer).__name__],
    }
