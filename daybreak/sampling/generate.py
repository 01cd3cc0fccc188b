"""Prompts to pictures, in batches."""

from __future__ import annotations

import torch
from torch import Tensor

from daybreak.config import Config
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextEncoder, TextTokens
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.phases import counted
from daybreak.sampling.expand import expanded
from daybreak.sampling.guidance import Routed, classifier_free, routed
from daybreak.sampling.sampler import SAMPLERS


@torch.no_grad()
def generate(
    transformer: Transformer, text_encoder: TextEncoder, prompts: list[str], config: Config, seed: int,
    resolution: int | None = None, first: int = 0, numbers: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """One picture for each prompt: [len(prompts), 3, H, W] float32 in [-1, 1], on the CPU.

    With `sample.expand` each prompt is written out first (expand.py), which is no less repeatable.

    Picture i depends on (seed, first + i), or (seed, numbers[i]) where these are given, its prompt and the sampling
    settings, not on how the prompts are batched.
    """
    side = resolution or config.data.resolution
    device = next(transformer.parameters()).device
    s = config.sample
    times = sampling_times(s.steps, config.diffusion.shift)
    named = numbers or list(range(first, first + len(prompts)))
    prompts = expanded(prompts, s.expand, seed, named)
    pictures = []
    for start in counted(range(0, len(prompts), s.batch), len(prompts)):
        captions = prompts[start : start + s.batch]
        noise = (
            torch.stack([noise_of(side, side, seed, n) for n in named[start : start + s.batch]])
            * config.diffusion.noise_scale
        )
        interval = (s.guidance_from, s.guidance_to)
        if s.guidance_kind == "classifier_free":
            text, empty = with_empty(text_encoder, captions)
            denoise = classifier_free(transformer, text, empty, s.guidance, interval)
        else:
            routing = Routed(config.routing.keep, torch.Generator().manual_seed(seed * 1_000_003 + start))
            text = text_encoder(captions)
            weaker = text if s.guidance_kind == "routed" else text_encoder([""] * len(captions))
            denoise = routed(transformer, text, weaker, routing, s.guidance, interval)
        pictures.append(SAMPLERS[s.sampler](denoise, noise.to(device), times).clamp(-1, 1).float().cpu())
    return torch.cat(pictures)


def generate_together(
    ranks: Ranks, transformer: Transformer, text_encoder: TextEncoder, prompts: list[str], config: Config, seed: int,
    numbers: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """As `generate`, each process generating a part of the pictures; all of them come back at every process."""
    numbers = numbers or list(range(len(prompts)))
    each = -(-len(prompts) // ranks.world)
    start = ranks.rank * each
    mine, named = prompts[start : start + each], numbers[start : start + each]
    drawn = generate(transformer, text_encoder, mine, config, seed, numbers=named) if mine else torch.empty(0)
    return torch.cat([part for part in ranks.gather(drawn) if len(part)])


def with_empty(text_encoder: TextEncoder, captions: list[str]) -> tuple[TextTokens, TextTokens]:
    """Captions' tokens, and for each of them the empty caption's, in one pass of the encoder."""
    both = text_encoder([*captions, ""])
    n = len(captions)
    return both.rows(list(range(n))), both.rows([n] * n)


def noise_of(height: int, width: int, seed: int, index: int = 0) -> Tensor:
    """The noise [3, height, width] from which picture `index` of `seed` is generated, standard deviation 1."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    return torch.randn(3, height, width, generator=generator)
