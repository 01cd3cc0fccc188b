"""What goes on inside: how pictures are seen through noise, and where each word of a caption looks.

Attention maps as in DAAM (arXiv 2210.04885): cross-attention of all layers and heads, brought to one size and averaged.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from daybreak.evaluate.attention_maps import Look, Predicted
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.shown import Shown
from daybreak.finetune.families import Family
from daybreak.finetune.prepared import Prepared
from daybreak.finetune.probes import LEVELS, Probe, TextOf

MAP_LEVEL = 2
"""Attention is looked at in the middle of LEVELS."""
MOST_WORDS = 15


def draw_seen(
    base: Prepared, probes: dict[str, Probe], text_of: TextOf, folder: Path, step: int, shown: Shown | None
) -> dict[str, Path]:
    """Writes what can be shown of one picture of the domain (else a general one) after `step` steps; {name: file}.

    shown: takes the same; None at those processes of a sharded base that only compute along.
    """
    probe = probes.get("domain", probes["general"])
    stem = f"step-{step:08d}"
    rows = predictions(base, probe, text_of)
    attended = attention_maps(base, probe) if base.family.attends else None
    if shown is None:
        return {}
    result = {"predictions": folder / f"predictions-{stem}.png"}
    titles = [f"{row.caption} {label}" for row in rows for label in row.labels]
    save_grid(torch.cat([row.pictures for row in rows]), titles, result["predictions"], columns=len(LEVELS))
    shown.noise(rows)
    if attended is not None:
        picture, looks = attended
        caption = probe.captions[0]
        result["attention"] = folder / f"attention-{stem}.png"
        tiles = torch.stack([picture, *(_reddened(picture, look.where) for look in looks)])
        save_grid(tiles, [caption, *(look.word for look in looks)], result["attention"])
        shown.words(shown.pictures(picture[None], [caption], name="attended"), [caption], [looks])
    return result


@torch.no_grad()
def predictions(base: Prepared, probe: Probe, text_of: TextOf) -> list[Predicted]:
    """One picture [3, H, W] at L noise levels: the noisy picture, the output, the x0 it implies."""
    family, process, device = base.family, base.process, base.device
    rows, text = probe.rows[0][None].to(device), probe.sized(text_of(probe.captions[:1]), [0], device)
    height, width = rows.shape[2:]
    noisy, outputs, clean = [], [], []
    for random in probe.random:
        random = random.rows(slice(0, 1))
        noise, posterior = (n[..., :height, :width].to(device) for n in (random.noise, random.posterior))
        t = random.t.to(device)
        x_t = process.interpolate(family.x0(rows, posterior), noise, t)
        output = family.predict(family.network, x_t, t, text).float()
        noisy.append(family.decode(x_t))
        outputs.append(_as_picture(output, noisy[-1].shape[-2:]))
        clean.append(family.decode(process.to_x0(x_t, output, t)))
    labels = [f"at {level:.0%}" for level in LEVELS]
    kinds = (("noisy,", noisy), ("the output", outputs), ("what it takes for clean,", clean))
    return [Predicted(name, torch.cat(pictures).cpu(), labels) for name, pictures in kinds]


def _as_picture(output: Tensor, size: tuple[int, ...]) -> Tensor:
    """The first three channels, each brought to [-1, 1]."""
    three = output[:, [0, 1, 2] if output.shape[1] >= 3 else [0, 0, 0]]
    spread = three.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return functional.interpolate(three / spread, size=size)


@torch.no_grad()
def attention_maps(base: Prepared, probe: Probe) -> tuple[Tensor, list[Look]]:
    """A picture [3, H, W], and where each word of its caption is attended to."""
    family, process, device = base.family, base.process, base.device
    caption, random = probe.captions[0], probe.random[MAP_LEVEL].rows(slice(0, 1))
    words = word_tokens(family, caption)[:MOST_WORDS]
    rows = probe.rows[0][None].to(device)
    height, width = rows.shape[2:]
    x0 = family.x0(rows, random.posterior[..., :height, :width].to(device))
    t = random.t.to(device)
    x_t = process.interpolate(x0, random.noise[..., :height, :width].to(device), t)
    with recorded(family.network) as maps:
        family.predict(family.network, x_t, t, probe.sized(family.text([caption]), [0], device))
    mean = averaged(maps, tuple(x0.shape[2:])).cpu()  # [h, w, L]; of each place, its attention over the tokens
    looks = [Look(w, float(mean[:, :, n].sum(dim=-1).mean()), mean[:, :, n].mean(dim=-1)) for w, n in words]
    return family.decode(x0)[0].cpu(), looks


def _reddened(picture: Tensor, where: Tensor) -> Tensor:
    """The picture [3, H, W], dim, and red where `where` [h, w] is large."""
    heat = (where - where.min()) / (where.max() - where.min()).clamp(min=1e-12)
    heat = functional.interpolate(heat[None, None], size=picture.shape[1:], mode="bilinear")[0]
    red = torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
    return (1 - 0.7 * heat) * (0.6 * picture - 0.4) + 0.7 * heat * red


def word_tokens(family: Family, caption: str) -> list[tuple[str, list[int]]]:
    """[(word, places of its tokens)] of what the text encoder reads, without begin and end marks."""
    tokenizer = getattr(family.pipeline, family.tokenizers[0])
    caption = family.pipeline.maybe_convert_prompt(caption, tokenizer)
    ids = tokenizer(caption, truncation=True, max_length=tokenizer.model_max_length)["input_ids"]
    words: list[tuple[str, list[int]]] = []
    begun = False
    for place, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
        if token in tokenizer.all_special_tokens and place in (0, len(ids) - 1):
            continue
        ends = token.endswith("</w>") or token in tokenizer.get_added_vocab()
        text = token.removesuffix("</w>")
        if begun:
            words[-1] = (words[-1][0] + text, [*words[-1][1], place])
        else:
            words.append((text, [place]))
        begun = not ends
    return words


def averaged(maps: list[Tensor], size: tuple[int, ...]) -> Tensor:
    """Maps [heads, h' w', L] of several layers to their mean [h, w, L] at `size`; layers are as square as x0 is."""
    height, width = size
    parts = []
    for found in maps:
        scale = (found.shape[1] / (height * width)) ** 0.5
        h, w = round(height * scale), round(width * scale)
        grid = found.float().mean(dim=0).T.reshape(1, -1, h, w)
        parts.append(functional.interpolate(grid, size=(height, width), mode="bilinear")[0])
    return torch.stack(parts).mean(dim=0).permute(1, 2, 0)


@contextmanager
def recorded(unet: Any) -> Generator[list[Tensor]]:
    """Within, the cross-attention of a UNet also appends its probabilities [heads, pixels, tokens] to what is given."""
    maps: list[Tensor] = []
    kept = unet.attn_processors
    unet.set_attn_processor({k: _Recorder(maps) if ".attn2." in k else p for k, p in kept.items()})
    try:
        yield maps
    finally:
        unet.set_attn_processor(kept)


class _Recorder:
    """Attention written out, since the fused kernels keep no probabilities."""

    def __init__(self, maps: list[Tensor]) -> None:
        self._maps = maps

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:  # fmt: skip
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probabilities = attn.get_attention_scores(query, key, attention_mask)
        self._maps.append(probabilities)
        out = attn.batch_to_head_dim(probabilities @ value)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor
