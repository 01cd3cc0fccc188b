"""Guidance wraps a denoiser and returns a denoiser; samplers know nothing of it.

A denoiser maps (x_t [B, 3, H, W], t [B]) to x0 [B, 3, H, W].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from daybreak.encoders.text import TextTokens
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer

Denoiser = Callable[[Tensor, Tensor], Tensor]


def conditional(model: Transformer, text: TextTokens) -> Denoiser:
    """The model's own prediction for these captions."""
    text = text.remembered()
    return lambda x_t, t: model(x_t, t, text).x0


@dataclass(frozen=True)
class Routed:
    """Draws the tokens that a routed prediction keeps: share `keep` of them, anew at each call, from `generator`."""

    keep: float
    generator: torch.Generator

    def visible(self, model: Transformer, x_t: Tensor) -> Tensor | None:
        """[B, K] for pictures x_t [B, 3, H, W]; None where all stay."""
        patch = model.config.patch
        tokens = (x_t.shape[2] // patch) * (x_t.shape[3] // patch)
        visible = sample_visible(len(x_t), tokens, self.keep, self.generator)
        return None if visible is None else visible.to(x_t.device)


def routed(
    model: Transformer, text: TextTokens, weaker: TextTokens, routing: Routed, scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoiser:  # fmt: skip
    """routed + scale (dense - routed): against the prediction that saw fewer tokens (arXiv 2601.01608).

    `weaker` is the text of the routed prediction: the same captions, or the empty one, which guides by text and
    tokens at once. Outside the interval the dense prediction stands alone.
    """
    low, high = interval
    same = weaker is text
    text = text.remembered()
    weaker = text if same else weaker.remembered()

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        dense = model(x_t, t, text).x0
        if scale == 1 or not low <= float(t[0]) <= high:
            return dense
        sparse = model(x_t, t, weaker, routing.visible(model, x_t)).x0
        return sparse + scale * (dense - sparse)

    return denoise


def classifier_free(
    model: Transformer, text: TextTokens, empty: TextTokens, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoiser:
    """unconditional + scale (conditional - unconditional) (arXiv 2207.12598), for t within `interval`.

    Outside the interval the conditional prediction stands alone (arXiv 2404.07724), which also halves the work there.
    `empty` holds the tokens of the empty caption, one row for each row of `text`. With scale 1 this is `conditional`.
    """
    if scale == 1:
        return conditional(model, text)
    both, text = TextTokens.cat([text, empty]).remembered(), text.remembered()
    low, high = interval

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if not low <= float(t[0]) <= high:
            return model(x_t, t, text).x0
        # One time for all stays one, of which the transformer makes one modulation.
        times = torch.cat([t, t]) if t.stride(0) else t[:1].expand(2 * len(t))
        with_text, without = model(torch.cat([x_t, x_t]), times, both).x0.chunk(2)
        return without + scale * (with_text - without)

    return denoise


def classifier_free_by_row(
    model: Transformer, text: TextTokens, empty: TextTokens, scale: Tensor, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoiser:
    """`classifier_free` where each row has its own scale ([B]), and may be at its own time.

    Only rows that are guided at their time cost a second prediction.
    """
    low, high = interval

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        rows = ((scale != 1) & (t >= low) & (t <= high)).nonzero().flatten()  # [G]
        if len(rows) == 0:
            return model(x_t, t, text).x0
        both = TextTokens.cat([text, TextTokens(empty.embeddings[rows], empty.mask[rows])])
        x0 = model(torch.cat([x_t, x_t[rows]]), torch.cat([t, t[rows]]), both).x0
        with_text, without = x0.split([len(x_t), len(rows)])
        guided = without + scale[rows].view(-1, 1, 1, 1) * (with_text[rows] - without)
        return with_text.index_copy(0, rows, guided)

    return denoise
