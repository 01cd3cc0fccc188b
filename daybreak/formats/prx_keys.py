"""Our transformer's weights under the names of diffusers' `PRXTransformer2DModel`, and back.

Two things differ beside names: our MLP holds gate and up projection in one matrix, and our RoPE pairs channel i with
i + D/2 where theirs pairs neighbours, so each head's query and key channels are reordered. Attention does not notice:
queries and keys are reordered alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from daybreak.config import ModelConfig, RoutingConfig

_NAMES = {
    "time_embedding.first": "time_in.in_layer",
    "time_embedding.second": "time_in.out_layer",
    "size_embedding.first": "resolution_embedder.mlp.in_layer",
    "size_embedding.second": "resolution_embedder.mlp.out_layer",
    "text_embedding": "txt_in",
    "final_modulation": "final_layer.adaLN_modulation.1",
    "final": "final_layer.linear",
    "patch_embedding": "img_in",
    "attention.qkv": "attention.img_qkv_proj",
    "attention.text_kv": "attention.txt_kv_proj",
    "attention.out": "attention.to_out.0",
    "attention.norm_q": "attention.norm_q",
    "attention.norm_k": "attention.norm_k",
    "attention.norm_text_k": "attention.norm_added_k",
    "mlp.down": "down_proj",
    "modulation.linear": "modulation.lin",
}
_BACK = {theirs: ours for ours, theirs in _NAMES.items()}


def is_prx(config: ModelConfig, routing: RoutingConfig) -> bool:
    """Whether diffusers' `PRXTransformer2DModel` has the same network: the same parts, none beside them."""
    same = {"layout": "text_kv", "modulation": "block", "predicts": "x0", "text_blocks": 0, "convolutions": (),
            "detail": 0, "text_convolutions": 0, "pooled_text": False, "grounding": False}  # fmt: skip
    return routing.method != "sprint" and all(getattr(config, name) == value for name, value in same.items())


def prx_config(config: ModelConfig, text_width: int) -> dict[str, object]:
    """The arguments with which diffusers' `PRXTransformer2DModel` builds the same network, of a model that `is_prx`."""
    head = config.width // config.heads
    return {
        "in_channels": 3,
        "patch_size": config.patch,
        "context_in_dim": text_width,
        "hidden_size": config.width,
        "mlp_ratio": config.mlp_ratio,
        "num_heads": config.heads,
        "depth": config.depth,
        "axes_dim": [head // 2, head // 2],
        "theta": int(config.rope_theta),
        "bottleneck_size": config.bottleneck,
        "resolution_embeds": config.size_conditioning,
    }


def to_prx(state: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Our state dict -> theirs. Raises KeyError for a name that is not the transformer's."""
    result = {}
    for name, tensor in state.items():
        if name.endswith("mlp.gate_up.weight"):
            block = name.removesuffix("mlp.gate_up.weight")
            gate, up = tensor.chunk(2)
            result[block + "gate_proj.weight"], result[block + "up_proj.weight"] = gate, up
        else:
            result[_rename(name, _NAMES)] = _reorder(name, tensor, heads, _interleave)
    return result


def from_prx(state: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Their state dict -> ours. Raises KeyError for a name that is not theirs."""
    result = {}
    for name, tensor in state.items():
        if name.endswith("up_proj.weight"):
            continue  # goes with its gate
        if name.endswith("gate_proj.weight"):
            block = name.removesuffix("gate_proj.weight")
            result[block + "mlp.gate_up.weight"] = torch.cat([tensor, state[block + "up_proj.weight"]])
        else:
            ours = _rename(name, _BACK)
            result[ours] = _reorder(ours, tensor, heads, _halve)
    return result


def _rename(name: str, table: dict[str, str]) -> str:
    """blocks.3.attention.qkv.weight -> blocks.3.attention.img_qkv_proj.weight, and the like."""
    match = re.match(r"blocks\.\d+\.", name)
    prefix = match.group() if match else ""
    body, _, kind = name.removeprefix(prefix).rpartition(".")
    if body in table:
        return f"{prefix}{table[body]}.{kind}"
    stem, _, index = body.rpartition(".")  # the bottleneck's two layers: patch_embedding.0 and .1
    if index.isdigit() and table.get(stem) in ("img_in", "patch_embedding"):
        return f"{prefix}{table[stem]}.{index}.{kind}"
    raise KeyError(f"no weight of the transformer is called {name!r}")


def _reorder(ours: str, tensor: Tensor, heads: int, order: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies `order` to the channels of each head wherever queries or keys are made; `ours` is our name."""
    if re.search(r"attention\.norm_(q|k|text_k)\.weight$", ours):
        return order(tensor)
    parts = {"attention.qkv.weight": 3, "attention.text_kv.weight": 2}
    for suffix, count in parts.items():
        if ours.endswith(suffix):
            *keys, values = tensor.chunk(count)  # the last part is the values, which no rotation touches
            keys = [order(k.view(heads, -1, k.shape[-1])).reshape_as(k) for k in keys]
            return torch.cat([*keys, values])
    return tensor


def _interleave(x: Tensor) -> Tensor:
    """Channels (0 .. D/2 - 1, D/2 .. D - 1) -> (0, D/2, 1, D/2 + 1, ...): [D] or [H, D, C], along D."""
    dim = 0 if x.ndim == 1 else 1
    return torch.stack(x.chunk(2, dim), dim=dim + 1).flatten(dim, dim + 1)


def _halve(x: Tensor) -> Tensor:
    """The inverse of `_interleave`."""
    dim = 0 if x.ndim == 1 else 1
    return torch.cat([x.unflatten(dim, (-1, 2)).select(dim + 1, k) for k in range(2)], dim)
