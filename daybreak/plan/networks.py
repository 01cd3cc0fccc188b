"""Frozen networks at their real sizes without their weights: built on the meta device, counted by torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from daybreak.config import ConfigError


@cache
def published() -> dict[str, Callable[[], Any]]:
    """Sizes of the networks that recipes name, so that planning needs no download; benchmarks add theirs."""
    from transformers import Dinov2WithRegistersConfig, DINOv3ViTConfig, T5Config, T5GemmaConfig, T5GemmaModuleConfig

    def t5gemma_2b() -> T5GemmaConfig:
        half = T5GemmaModuleConfig(
            hidden_size=2304, num_hidden_layers=26, intermediate_size=9216, num_attention_heads=8,
            num_key_value_heads=4, head_dim=256,
        )  # fmt: skip
        return T5GemmaConfig(encoder=half, decoder=half, is_encoder_decoder=False)

    return {
        "facebook/dinov3-vitl16-pretrain-lvd1689m": lambda: DINOv3ViTConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, patch_size=16,
            num_register_tokens=4,
        ),
        "facebook/dinov2-with-registers-base": lambda: Dinov2WithRegistersConfig(
            hidden_size=768, num_hidden_layers=12, num_attention_heads=12, patch_size=14, image_size=518,
            num_register_tokens=4,
        ),
        "google/t5gemma-2b-2b-ul2": t5gemma_2b,
        "google/flan-t5-large": lambda: T5Config(
            d_model=1024, d_ff=2816, num_layers=24, num_heads=16, d_kv=64, feed_forward_proj="gated-gelu",
            vocab_size=32128,
        ),
    }  # fmt: skip


def config_of(name: str, setting: str) -> Any:
    """The transformers config of a network, from the table above or by hub id or folder."""
    from transformers import AutoConfig  # here: a plan with the embedded networks need not wait for it

    if (known := published().get(name)) is not None:
        return known()
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{setting} {name}: its size is not known: {' '.join(str(e).split())[:160]}") from None


def build_text_encoder(config: Any) -> nn.Module:
    """The encoder, or the text part of a language model, without weights."""
    from transformers import AutoModel, T5EncoderModel, T5GemmaEncoderModel

    from daybreak.encoders.pretrained_text import ENCODERS

    kind = {"t5": T5EncoderModel, "t5gemma": T5GemmaEncoderModel}.get(config.model_type, ENCODERS[config.model_type])
    config._attn_implementation = "eager"  # whose products torch's counter sees
    with torch.device("meta"):
        network = AutoModel.from_config(config) if kind is AutoModel else kind(config)
    return getattr(network, "language_model", network)


def build_vision(config: Any) -> nn.Module:
    """The vision network without weights."""
    from transformers import AutoModel

    config._attn_implementation = "eager"
    with torch.device("meta"):
        return AutoModel.from_config(config)


def parameters_of(network: nn.Module) -> int:
    """How many numbers it holds."""
    return sum(p.numel() for p in network.parameters())


@dataclass(frozen=True)
class Cost:
    """Of one call: flops of its matrix products (a multiply-add is two), values that its other operations write."""

    flops: int
    values: int


class ValueCounter(TorchDispatchMode):
    """Counts the numbers that operations other than matrix products write: norms, activations, softmax, additions.

    They take time by the memory they touch, where products take it by FLOPs. Views write nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, and counts what it returns."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket not in flop_registry and not func.is_view:
            self.values += sum(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))
        return out


def cost_of(run: Callable[[], object]) -> Cost:
    """What `run` costs, by torch's counter of FLOPs and our own of values; best on tensors of the meta device."""
    flops, values = FlopCounterMode(display=False), ValueCounter()
    with values, flops, torch.no_grad():
        run()
    return Cost(flops.get_total_flops(), values.values)
