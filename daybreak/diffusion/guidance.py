"""Guidance wraps a denoiser and returns a denoiser; samplers know nothing of it.

A denoiser maps (x_t [B, 3, H, W], t [B]) to x0 [B, 3, H, W].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from daybreak.encoders.text import TextTokens
from daybreak.model.transformer import Transformer

Denoiser = Callable[[Tensor, Tensor], Tensor]


def conditional(model: Transformer, text: TextTokens) -> Denoiser:
    """The model's own prediction for these captions."""
    return lambda x_t, t: model(x_t, t, text).x0


def classifier_free(
    model: Transformer, text: TextTokens, empty: TextTokens, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoiser:
    """unconditional + scale (conditional - unconditional) (arXiv 2207.12598), for t within `interval`.

    Outside the interval the conditional prediction stands alone (arXiv 2404.07724), which also halves the work there.
    `empty` holds the tokens of the empty caption, one row for each row of `text`. With scale 1 this is `conditional`.
    """
    if scale == 1:
        return conditional(model, text)
    both = TextTokens.cat([text, empty])
    low, high = interval

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if not low <= float(t[0]) <= high:
            return model(x_t, t, text).x0
        with_text, without = model(torch.cat([x_t, x_t]), torch.cat([t, t]), both).x0.chunk(2)
        return without + scale * (with_text - without)

    return denoise
