"""What goes on inside a model while it trains: where each word of a prompt is looked at, what is seen through noise.

Attention maps after DAAM (arXiv 2210.04885): the mean over all layers and heads, here of the share that a patch gives
to a word, over several noise levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daybreak.config import Config
from daybreak.data.batch import Batch
from daybreak.diffusion import flow
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.grid import save_grid
from daybreak.model.transformer import Transformer
from daybreak.sampling.generate import noise_of

LEVELS = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Noise levels t, 1 being noise."""
MOST_PX = 256
"""Larger pictures are shown at this side."""
MOST_WORDS = 12
OTHERS = "(marks)"
"""Tokens that belong to no word: a caption's begin and end."""
FIRE = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (250, 193, 39),
        (252, 255, 164))  # fmt: skip
"""RGB from the least attention to the most, evenly spaced, as on the page (html/watch/words.js)."""


@dataclass(frozen=True)
class Look:
    """A word, or the marks, of a prompt: the share of the attention to the text that it gets, and where [h, w]."""

    word: str
    share: float
    where: Tensor


@torch.no_grad()
def look_at_words(
    transformer: Transformer, text_encoder: TextEncoder, pictures: Tensor, prompts: Sequence[str], config: Config,
    seed: int,
) -> list[list[Look]]:  # fmt: skip
    """For each picture [B, 3, H, W] in [-1, 1] of `prompts`: its words in their order, then the marks.

    Each picture is noised to every one of LEVELS, always with the same noise.
    """
    p = transformer.config.patch
    rows, columns = pictures.shape[2] // p, pictures.shape[3] // p
    text = text_encoder(list(prompts)).remembered()
    levels = [transformer(x_t, t, text, look=True).attention for x_t, t in _noised(transformer, pictures, config, seed)]
    shares = torch.stack([a for a in levels if a is not None]).mean(dim=0).float().cpu()  # [B, N, L]
    result = []
    for i, prompt in enumerate(prompts):
        words = text_encoder.words(prompt)
        named = {place for _, places in words for place in places}
        marks = [n for n in text.mask[i].nonzero().flatten().tolist() if n not in named]
        groups = [*words, (OTHERS, marks)] if marks else words
        maps = [(word, shares[i][:, places].sum(dim=1)) for word, places in groups]
        total = max(1e-12, sum(float(m.mean()) for _, m in maps))
        result.append([Look(word, float(m.mean()) / total, m.view(rows, columns)) for word, m in maps])
    return result


def draw_attention(pictures: Tensor, prompts: Sequence[str], looks: list[list[Look]], path: Path) -> None:
    """A PNG: each picture in a row, and beside it once for each word, lit where the word is looked at.

    Each is as bright as its own brightest place; the percentage tells how much of the attention the word gets. Of long
    prompts those words are shown that get most.
    """
    pictures = _smaller(pictures)
    columns = 1 + min(MOST_WORDS, max(len(found) for found in looks))
    tiles, titles = [], []
    for picture, prompt, found in zip(pictures, prompts, looks, strict=True):
        least = min(sorted((look.share for look in found), reverse=True)[: columns - 1], default=0.0)
        shown = [look for look in found if look.share >= least][: columns - 1]
        tiles += [picture, *(_lit(picture, look.where) for look in shown)]
        titles += [prompt, *(f"{look.word} {look.share:.0%}" for look in shown)]
        empty = columns - 1 - len(shown)
        tiles += [torch.ones_like(picture)] * empty
        titles += [""] * empty
    save_grid(tiles, titles, path, columns=columns)


@dataclass(frozen=True)
class Predicted:
    """A picture of the data, and after it what the model takes it for through noise: [1 + L, 3, H, W], a label each."""

    caption: str
    pictures: Tensor
    labels: list[str]


@torch.no_grad()
def predict(
    transformer: Transformer, text_encoder: TextEncoder, batch: Batch, config: Config, seed: int
) -> list[Predicted]:  # fmt: skip
    """What the model takes each picture of the data for at each of LEVELS."""
    text = text_encoder(batch.captions).remembered()
    seen, labels = [_smaller(batch.images)], [["the picture"] * len(batch.images)]
    for x_t, t in _noised(transformer, batch.images, config, seed):
        x0 = transformer(x_t, t, text).x0.float().cpu()
        errors = (x0 - batch.images).square().mean(dim=(1, 2, 3)).tolist()
        seen.append(_smaller(x0.clamp(-1, 1)))
        labels.append([f"t = {float(t[0]):.1f}, squared error {e:.3f}" for e in errors])
    rows = zip(batch.captions, torch.stack(seen, dim=1), zip(*labels, strict=True), strict=True)
    return [Predicted(caption, pictures, list(said)) for caption, pictures, said in rows]


def draw_predictions(rows: Sequence[Predicted], path: Path) -> None:
    """A PNG: each picture of the data in a row above its caption, and beside it what the model takes it for."""
    tiles = [picture for row in rows for picture in row.pictures]
    titles = [title for row in rows for title in (row.caption, *row.labels[1:])]
    save_grid(tiles, titles, path, columns=len(rows[0].labels))


def _noised(transformer: Transformer, pictures: Tensor, config: Config, seed: int) -> list[tuple[Tensor, Tensor]]:
    """(x_t [B, 3, H, W], t [B]) at each of LEVELS, on the model's device."""
    device = next(transformer.parameters()).device
    height, width = pictures.shape[2:]
    noise = torch.stack([noise_of(height, width, seed, i) for i in range(len(pictures))]).to(device)
    x0, noise = pictures.to(device), config.diffusion.noise_scale * noise
    times = [torch.full((len(pictures),), level, device=device) for level in LEVELS]
    return [(flow.interpolate(x0, noise, t), t) for t in times]


def _smaller(pictures: Tensor) -> Tensor:
    """Pictures of MOST_PX at most."""
    height, width = pictures.shape[2:]
    scale = MOST_PX / max(height, width)
    if scale >= 1:
        return pictures
    return F.interpolate(pictures, size=(round(height * scale), round(width * scale)), mode="area")


def _lit(picture: Tensor, where: Tensor) -> Tensor:
    """The picture [3, H, W], grey and dim, in the colours of `where` [h, w] from its least to its largest.

    Patch by patch: smoothed, a sheet of them is eight times as many bytes, and looks as if it knew more.
    """
    heat = (where - where.min()) / (where.max() - where.min()).clamp(min=1e-12)
    heat = F.interpolate(heat[None, None], size=picture.shape[1:], mode="nearest-exact")[0, 0].clamp(0, 1)
    stops = np.linspace(0, 1, len(FIRE))
    bands = [np.interp(heat, stops, [colour[band] / 255 for colour in FIRE]) for band in range(3)]
    colours = torch.from_numpy(np.stack(bands)).float()
    grey = picture.mean(dim=0, keepdim=True) / 2 + 0.5
    return 2 * ((1 - heat) * 0.6 * grey + heat * colours) - 1
