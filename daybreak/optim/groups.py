"""Which optimiser trains which parameter; every parameter is accounted for."""

from __future__ import annotations

import torch
from torch import nn

from daybreak.config import OptimConfig
from daybreak.optim.muon import Muon


def split_parameters(transformer: nn.Module, text_encoder: nn.Module) -> tuple[dict, dict]:
    """Named parameters for (Muon, AdamW).

    Muon takes the matrices that act inside the transformer's blocks and the text encoder's; embeddings, the first and
    last layers, modulation, norms and biases are AdamW's. Raises RuntimeError if a parameter were left out or doubled.
    """
    named = {f"transformer.{n}": p for n, p in transformer.named_parameters()}
    named |= {f"text_encoder.{n}": p for n, p in text_encoder.named_parameters()}
    muon = {n: p for n, p in named.items() if p.ndim == 2 and _is_hidden_matrix(n)}
    adam = {n: p for n, p in named.items() if n not in muon}
    expected = len({id(p) for m in (transformer, text_encoder) for p in m.parameters()})
    if len(muon) + len(adam) != expected:
        raise RuntimeError(f"{expected} parameters, but {len(muon)} for Muon and {len(adam)} for AdamW")
    return muon, adam


def _is_hidden_matrix(name: str) -> bool:
    if name.startswith("transformer.blocks."):
        return ".attention." in name or ".mlp." in name
    return ".block." in name and "relative_attention_bias" not in name


def build_optimizers(
    transformer: nn.Module, text_encoder: nn.Module, config: OptimConfig, muon_dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW], each with its base learning rate in the group's "base_lr"; the schedule multiplies that."""
    muon, adam = split_parameters(transformer, text_encoder)
    optimizers: list[torch.optim.Optimizer] = [
        Muon(
            muon.values(),
            lr=config.muon_lr,
            momentum=config.muon_momentum,
            weight_decay=config.weight_decay,
            dtype=muon_dtype,
        ),
        torch.optim.AdamW(
            adam.values(),
            lr=config.adam_lr,
            betas=config.adam_betas,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            foreach=True,
        ),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers
