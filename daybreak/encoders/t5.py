"""A T5 encoder (Raffel et al. 2020, arXiv 1910.10683), in transformers' files of a `T5EncoderModel`.

The embedded text encoder is trained with the model from random weights, so that this is all of T5 that a run needs;
transformers takes two seconds to import. tests/encoders/test_t5.py holds it against transformers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from daybreak.attention import attend
from daybreak.config import ConfigError

WEIGHTS = "model.safetensors"
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gated-silu": F.silu,
    "gated-gelu": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}
"""By transformers' name of the feed-forward part: gated (Shazeer 2020, arXiv 2002.05202), or as T5 1.0 has it."""


@dataclass(frozen=True)
class T5Shape:
    """Sizes, by the names of transformers' T5Config."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    feed_forward_proj: str = "gated-silu"
    layer_norm_epsilon: float = 1e-6
    pad_token_id: int = 0
    eos_token_id: int = 1

    def save(self, folder: Path) -> None:
        """Writes config.json, as `AutoConfig` reads it."""
        folder.mkdir(parents=True, exist_ok=True)
        kind = {"model_type": "t5", "architectures": ["T5EncoderModel"], "dropout_rate": 0.0, "use_cache": False}
        (folder / "config.json").write_text(json.dumps(kind | asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> T5Shape:
        """Of a folder that `save`, or transformers, wrote. Raises ConfigError for another kind of T5."""
        stored = json.loads((folder / "config.json").read_text())
        if (form := stored.get("feed_forward_proj", "relu")) not in ACTIVATIONS:
            raise ConfigError(
                f"{folder / 'config.json'}: feed_forward_proj is {form}; it must be one of {', '.join(ACTIVATIONS)}"
            )
        sizes = {f.name: stored[f.name] for f in fields(cls) if f.name in stored}
        return cls(**sizes | {"feed_forward_proj": form})


class T5Encoder(nn.Module):
    """Token ids to states. Weights have the names that transformers gives them."""

    def __init__(self, config: T5Shape) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack(config, self.shared)
        nn.init.normal_(self.shared.weight)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.shared.weight.device

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids [B, L], mask [B, L] bool (True: a token) -> states [B, L, d_model]."""
        return self.encoder(ids, mask)

    def save(self, folder: Path) -> None:
        """Writes config.json and model.safetensors; the embedding once."""
        self.config.save(folder)
        weights = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items() if "embed_tokens" not in k}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: Path) -> T5Encoder:
        """What `save`, or transformers, wrote. Raises ConfigError where it does not fit."""
        network = cls(T5Shape.load(folder))
        weights = load_file(folder / WEIGHTS)
        if (embedding := weights.pop("encoder.embed_tokens.weight", None)) is not None:
            weights["shared.weight"] = embedding
        missing, unknown = network.load_state_dict(weights, strict=False)
        if wrong := [k for k in missing if "embed_tokens" not in k] + unknown:
            raise ConfigError(f"{folder / WEIGHTS} does not fit its config.json: {wrong[0]} is missing or unknown")
        return network


class Stack(nn.Module):
    """Blocks, and a norm behind them."""

    def __init__(self, config: T5Shape, embedding: nn.Embedding) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = embedding
        self.block = nn.ModuleList([Block(config, first=i == 0) for i in range(config.num_layers)])
        self.final_layer_norm = Norm(config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See `T5Encoder`."""
        x = self.embed_tokens(ids)
        if len(self.block):
            hidden = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, torch.finfo(x.dtype).min)
            first: Any = self.block[0]  # knows the distances, for all
            bias = first.layer[0].SelfAttention.bias(ids.shape[1]) + hidden[:, None, None]
            for block in self.block:
                x = block(x, bias)
        return self.final_layer_norm(x)


class Block(nn.Module):
    """Attention, then the feed-forward part."""

    def __init__(self, config: T5Shape, first: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([AttentionLayer(config, first), FeedForwardLayer(config)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, L, C], bias [B, H, L, L]."""
        return self.layer[1](self.layer[0](x, bias))


class AttentionLayer(nn.Module):
    """x + attention(norm(x))."""

    def __init__(self, config: T5Shape, first: bool) -> None:
        super().__init__()
        self.SelfAttention = Attention(config, first)
        self.layer_norm = Norm(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """See `Block`."""
        return x + self.SelfAttention(self.layer_norm(x), bias)


class FeedForwardLayer(nn.Module):
    """x + feed_forward(norm(x))."""

    def __init__(self, config: T5Shape) -> None:
        super().__init__()
        self.DenseReluDense = FeedForward(config)
        self.layer_norm = Norm(config)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, C]."""
        return x + self.DenseReluDense(self.layer_norm(x))


class Attention(nn.Module):
    """Self-attention without a scale; the first block's knows how far tokens are from each other, for all."""

    def __init__(self, config: T5Shape, first: bool) -> None:
        super().__init__()
        width, inner = config.d_model, config.num_heads * config.d_kv
        self.config = config
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, width, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)
            nn.init.normal_(self.relative_attention_bias.weight, std=width**-0.5)
        nn.init.normal_(self.q.weight, std=(width * config.d_kv) ** -0.5)
        for layer in (self.k, self.v):
            nn.init.normal_(layer.weight, std=width**-0.5)
        nn.init.normal_(self.o.weight, std=inner**-0.5)

    def bias(self, length: int) -> Tensor:
        """[1, H, length, length], of the distances between tokens."""
        where = torch.arange(length, device=self.q.weight.device)
        return self.relative_attention_bias(self._bucket(where[None] - where[:, None])).permute(2, 0, 1)[None]

    def _bucket(self, distance: Tensor) -> Tensor:
        """Half of the buckets are for tokens behind; of each half one half for single distances, one for ranges that
        grow by a factor up to the largest distance."""
        half = self.config.relative_attention_num_buckets // 2
        near, far = half // 2, self.config.relative_attention_max_distance
        away = distance.abs()
        grown = near + (torch.log(away.float() / near) / math.log(far / near) * (half - near)).long()
        return (distance > 0) * half + torch.where(away < near, away, grown.clamp(max=half - 1))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, L, C], bias [B, H, L, L]."""
        q, k, v = (p(x).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        seen = attend(q, k, v, bias, scale=1.0)
        return self.o(seen.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers, the first of them gated or not."""

    def __init__(self, config: T5Shape) -> None:
        super().__init__()
        self.act = ACTIVATIONS[config.feed_forward_proj]
        gated = config.feed_forward_proj.startswith("gated-")
        self.inner = ("wi_0", "wi_1") if gated else ("wi",)
        for name in self.inner:
            layer = nn.Linear(config.d_model, config.d_ff, bias=False)
            nn.init.normal_(layer.weight, std=config.d_model**-0.5)
            self.add_module(name, layer)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)
        nn.init.normal_(self.wo.weight, std=config.d_ff**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, C]."""
        first, *gate = (self.get_submodule(name)(x) for name in self.inner)
        return self.wo(self.act(first) * gate[0] if gate else self.act(first))


class Norm(nn.Module):
    """x over its root mean square, in float32, times a weight."""

    def __init__(self, config: T5Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self._eps = config.layer_norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C]."""
        return self.weight * F.rms_norm(x.float(), x.shape[-1:], eps=self._eps).to(self.weight.dtype)
