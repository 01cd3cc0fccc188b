"""Frozen pretrained text encoders through transformers, by hub id or folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModel, T5EncoderModel, T5GemmaEncoderModel
from transformers.utils import logging as transformers_logging

from daybreak.config import ConfigError, TextConfig
from daybreak.encoders.text import TextEncoder, TextTokens

transformers_logging.disable_progress_bar()  # a bar for each checkpoint would break the live display

ENCODERS: dict[str, Any] = {
    "t5": T5EncoderModel,
    "t5gemma": T5GemmaEncoderModel,
    "clip": CLIPTextModel,
    "clip_text_model": CLIPTextModel,
    "gemma3_text": AutoModel,
    "gemma3": AutoModel,
    "qwen3": AutoModel,
    "qwen3_vl": AutoModel,
    "qwen3_vl_text": AutoModel,
}
"""Which class reads which `model_type`."""
GROUP = 16
"""Captions that are encoded together, after sorting by length: so little of the work goes into padding."""
SETTING = "text.pretrained"
"""What names the encoder of a run."""


class PretrainedTextEncoder(TextEncoder):
    """Last hidden states of a frozen encoder (T5, T5Gemma, CLIP) or language model (Gemma 3, Qwen3, Qwen3-VL's text).

    Captions of like length are encoded together and padded only to the longest of their group; padding is masked. A
    caption without any token (the empty one, where a tokenizer adds nothing) is masked whole.
    """

    frozen = True

    def __init__(self, tokenizer: Any, network: Any, max_tokens: int) -> None:
        nn.Module.__init__(self)
        self.tokenizer, self.max_tokens, self._warned = tokenizer, max_tokens, False
        self.network = network.eval().requires_grad_(False)
        config: Any = network.config
        config = getattr(config, "encoder", config)  # T5Gemma's has a config for each of its halves
        self.width = int(getattr(config, "d_model", 0) or config.hidden_size)
        self.pad_id = tokenizer.pad_token_id

    @classmethod
    def open(cls, config: TextConfig, asked_by: str = SETTING) -> PretrainedTextEncoder:
        """Loads `text.pretrained`. Raises ConfigError for an unknown kind and where it can't be loaded; the user named
        it by `asked_by`.

        The folder of a pipeline, or of an export, will do: its `text_encoder/` and `tokenizer/` are taken.
        """
        name = config.pretrained
        assert name is not None
        kind, tokenizer = cls.find(config, asked_by)
        try:
            network = ENCODERS[kind].from_pretrained(name, **_where(config), use_safetensors=True)
        except (OSError, ValueError, KeyError) as e:
            raise _not_loaded(config, asked_by, e) from None
        network = getattr(network, "language_model", network)  # of a model that also sees
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        positions = getattr(network.config, "max_position_embeddings", None)
        if kind.startswith("clip") and positions is not None and config.max_tokens > positions:
            raise ConfigError(f"text.max_tokens is {config.max_tokens}; {name} reads at most {positions}")
        return cls(tokenizer, network, config.max_tokens)

    @staticmethod
    def find(config: TextConfig, asked_by: str = SETTING) -> tuple[str, Any]:
        """Its `model_type` and its tokenizer, without the weights. Raises ConfigError as `open` does."""
        name = config.pretrained
        assert name is not None
        try:
            kind = AutoConfig.from_pretrained(name, **_where(config)).model_type
            if kind in ENCODERS:
                words = Path(name) / "tokenizer" if _is_pipeline(name) else name
                return kind, AutoTokenizer.from_pretrained(words, revision=config.revision)
        except (OSError, ValueError, KeyError) as e:
            raise _not_loaded(config, asked_by, e) from None
        raise ConfigError(f"{asked_by} is {name}, a {kind}; encoders can be {', '.join(ENCODERS)}")

    def train(self, mode: bool = True) -> PretrainedTextEncoder:
        """Stays in evaluation mode, whatever `mode` says: frozen means without dropout too."""
        return super().train(mode and False)

    @torch.no_grad()
    def forward(self, captions: list[str], offsets: bool = False) -> TextTokens:
        """B captions -> their tokens; offsets: with where they stand."""
        ids, mask, where = self._read(captions, offsets)
        if ids.shape[1] == 0:  # only empty captions, and a tokenizer that adds nothing to them
            ids, mask = ids.new_full((len(ids), 1), self.pad_id), mask.new_zeros(len(mask), 1)
        lengths = mask.sum(1)
        device, dtype = self.network.device, torch.float32
        result = torch.zeros(*ids.shape, self.width, device=device, dtype=dtype)
        order = lengths.argsort()
        for start in range(0, len(order), GROUP):
            rows = order[start : start + GROUP]
            longest = int(lengths[rows].max())
            if longest == 0:
                continue
            hidden = self.network(
                input_ids=ids[rows, :longest].to(device), attention_mask=mask[rows, :longest].to(device)
            ).last_hidden_state
            result[rows.to(device), :longest] = hidden.to(dtype)
        padded = not bool(mask.all())
        mask = mask.to(device)
        return TextTokens(torch.where(mask[..., None], result, 0.0), mask, padded, offsets=where)

    def words(self, caption: str) -> list[tuple[str, list[int]]]:
        """See `TextEncoder`. A tokenizer that cannot tell where its tokens stand gives a word for each."""
        if self.tokenizer.is_fast:
            return super().words(caption)
        (ids,), special = self._encoded([caption], offsets=False)[0], set(self.tokenizer.all_special_ids)
        return [(str(self.tokenizer.decode([t])), [place]) for place, t in enumerate(ids) if t not in special]

    def _encoded(self, captions: list[str], offsets: bool) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """See `TextEncoder`; a tokenizer that cannot tell where its tokens stand says nothing of it."""
        wanted = offsets and self.tokenizer.is_fast
        encoded = self.tokenizer(
            captions, truncation=True, max_length=self.max_tokens, return_offsets_mapping=wanted
        )  # fmt: skip
        return encoded["input_ids"], encoded["offset_mapping"] if wanted else [[] for _ in captions]

    def cut_off(self, caption: str) -> str | None:
        """See `TextEncoder`."""
        ids: list[int] = self.tokenizer(caption)["input_ids"]
        if len(ids) <= self.max_tokens:
            return None
        special = self.tokenizer.num_special_tokens_to_add()
        return str(self.tokenizer.decode(ids[self.max_tokens - special :], skip_special_tokens=True))


def _is_pipeline(name: str) -> bool:
    return (Path(name) / "text_encoder").is_dir()


def _where(config: TextConfig) -> dict[str, Any]:
    name = config.pretrained or ""
    return {"revision": config.revision, "subfolder": "text_encoder" if _is_pipeline(name) else ""}


def _not_loaded(config: TextConfig, asked_by: str, error: Exception) -> ConfigError:
    return ConfigError(f"{asked_by} {config.pretrained} cannot be loaded: {' '.join(str(error).split())[:200]}")
