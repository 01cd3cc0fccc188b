"""Which optimiser trains which parameter; every parameter is accounted for."""

from __future__ import annotations

import re

import torch
from torch import nn

from daybreak.config import OptimConfig
from daybreak.optim.adamw import AdamW
from daybreak.optim.muon import Muon

NORMUON_ROW_BETA = 0.95


def split_parameters(modules: dict[str, nn.Module]) -> tuple[dict, dict]:
    """Named trained parameters of `modules` ("transformer", "text_encoder", "projector") for (Muon, AdamW).

    Muon takes the matrices that act inside the transformer's blocks and the text encoder's; embeddings, the first and
    last layers, convolutions, modulation, norms, biases and the projector are AdamW's. Frozen parameters are in none.
    Raises RuntimeError if a trained parameter were left out or doubled.
    """
    named = {
        f"{part}.{n}": p for part, module in modules.items() for n, p in module.named_parameters() if p.requires_grad
    }
    muon = {n: p for n, p in named.items() if p.ndim == 2 and _is_hidden_matrix(n)}
    adam = {n: p for n, p in named.items() if n not in muon}
    expected = len({id(p) for m in modules.values() for p in m.parameters() if p.requires_grad})
    if len(muon) + len(adam) != expected:
        raise RuntimeError(f"{expected} parameters, but {len(muon)} for Muon and {len(adam)} for AdamW")
    return muon, adam


def _is_hidden_matrix(name: str) -> bool:
    if name.startswith(("transformer.blocks.", "transformer.text_blocks.")):
        return re.search(r"\.attention|\.mlp\.|\.attn_out\.|_proj\.", name) is not None  # the last two are PRX's
    return name.startswith("text_encoder.") and ".block." in name and "relative_attention_bias" not in name


def build_optimizers(
    modules: dict[str, nn.Module], config: OptimConfig, muon_dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """[Muon, AdamW], each with its base learning rate in the group's "base_lr"; the schedule multiplies that.

    With `optim.matrices=adamw` there is AdamW alone, at its own rate for all.
    """
    muon, adam = split_parameters(modules)
    if config.matrices == "adamw":
        muon, adam = {}, muon | adam
    optimizers: list[torch.optim.Optimizer] = [
        AdamW(
            adam.values(),
            lr=config.adam_lr,
            betas=config.adam_betas,
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
        ),
    ]
    if muon:
        first = Muon(
            muon.values(),
            lr=config.muon_lr,
            momentum=config.muon_momentum,
            weight_decay=config.weight_decay,
            polynomials=config.orthogonalization,
            row_beta=NORMUON_ROW_BETA if config.matrices == "normuon" else None,
            dtype=muon_dtype,
            every=config.muon_every,
        )
        optimizers.insert(0, first)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers
