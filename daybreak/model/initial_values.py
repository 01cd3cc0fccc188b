"""All initial values of the transformer, in this one place."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from daybreak.model.convolutions import Residual

IDENTITY_GAIN = 2.0
"""Of patches and of the bias, where the network begins as the identity."""


def set_initial_values(model: Any) -> None:
    """Sets every parameter of `model`, a Transformer, anew, from torch's generator.

    Linear layers: Xavier uniform, zero bias. The last layer: zero, so the first prediction is grey. Modulation:
    zero but for the gates' bias, 1: blocks are open from the start, and begin as the identity through the zero
    matrices that end their two halves. (The published start, all gates at zero, takes longer to open them.)
    The patch embedding's bias is random: every block normalises its tokens, so without a fixed part in them the
    brightness of a patch is invisible at first. docs/journal.md has the figures. SPRINT's fusion begins as the
    mean of what it fuses. `model.start` identity: see `begin_as_identity`. Convolutions: torch's own values, but zero
    where a residual ends and in the last one, so the first prediction is a share of the noisy picture. The detail head
    comes after all of them: see `begin_without`.
    """
    for name, module in model.named_modules():
        if name.startswith(("stem.", "decoder.")) and "modulation" not in name:
            continue
        if isinstance(module, nn.Linear):
            ends_a_half = "blocks." in name and name.endswith((".out", ".down", "attention_out"))
            if "modulation" in name or ends_a_half:
                nn.init.zeros_(module.weight)
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)
    if model.final is not None:
        nn.init.zeros_(model.final.weight)
        last = model.patch_embedding[-1] if isinstance(model.patch_embedding, nn.Sequential) else model.patch_embedding
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.bias)
        if model.config.start == "identity":
            begin_as_identity(last, model.final)
    if model.decoder is not None:
        for ending in (m.second for m in model.modules() if isinstance(m, Residual)):
            zero(ending)
        zero(model.decoder.leave)
    with torch.no_grad():
        for part in (part for b in model.blocks for part in (b, getattr(b, "image", None), getattr(b, "text", None))):
            modulation: Any = getattr(part, "modulation", None)
            if modulation is not None:
                bias = modulation.bias if modulation.linear is None else modulation.linear.bias
                bias.zero_()
                for gate in (2, 5):  # of shift, scale, gate, twice
                    bias.view(6, -1)[gate] = 1
        if model.fusion is not None:
            nn.init.zeros_(model.fusion.absent)
            half = 0.5 * torch.eye(model.config.width)
            model.fusion.fuse.weight.copy_(torch.cat([half, half], dim=1))


def begin_without(detail: Any) -> None:
    """Sets a detail head's last convolution and its modulation to zero: nothing is added, by every place alike."""
    zero(detail.leave)
    zero(detail.modulation)


def zero(layer: nn.Module) -> None:
    """Sets a layer's weights and bias to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def begin_as_identity(embedding: nn.Linear, final: nn.Linear) -> None:
    """Lets the first prediction be about 0.4 of the noisy picture in place of grey.

    The patch embedding maps patches to orthogonal directions, its bias lies across them and is the larger part of
    every token, so that the last norm scales all tokens nearly alike; the last layer maps the directions back. (Blocks
    begin as the identity.) Small runs reach a lower error from here; docs/journal.md has the figures.
    """
    width, values = embedding.weight.shape
    basis = torch.linalg.qr(torch.randn(width, width))[0]
    across = basis[:, values:] @ torch.randn(width - values)
    across = F.layer_norm(across, across.shape)
    with torch.no_grad():
        embedding.weight.copy_(IDENTITY_GAIN * basis[:, :values])
        embedding.bias.copy_(IDENTITY_GAIN * across)
        final.weight.copy_(basis[:, :values].T / 2)
