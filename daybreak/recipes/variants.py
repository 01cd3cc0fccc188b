"""Variants: single changes that a recipe's name can carry, as in `scenes+tread+repa`; what ablations compare.

Each takes a Config and returns it with one part of the 24-hour recipe on, off, or replaced, in proportions that follow
the model's size. The weights are the published ones (PRX Part 3) where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from daybreak.config import Config


def tread(c: Config) -> Config:
    """TREAD: half of the image tokens skip the middle blocks (from after the 2nd, at most a quarter, to the last)."""
    return replace(c, routing=replace(c.routing, keep=0.5, start=min(2, max(1, c.model.depth // 4)), end=None))


def sprint(c: Config) -> Config:
    """SPRINT: three quarters of the tokens skip; what all were before is fused back in."""
    start = min(2, max(1, c.model.depth // 4))
    return replace(c, routing=replace(c.routing, method="sprint", keep=0.25, start=start, path_drop=0.05))


def repa(c: Config) -> Config:
    """REPA: features of the middle block are drawn to the teacher's, over the whole run.

    The projector is as wide as the model, at most the published 2048: four times as wide it took a quarter of the FLOPs
    of the small model's step.
    """
    width = min(2048, c.model.width)
    layer = max(1, c.model.depth // 2)
    return replace(c, alignment=replace(c.alignment, weight=0.5, layer=layer, projector_width=width, until=1.0))


def repa_early(c: Config) -> Config:
    """REPA for the first two fifths of the run."""
    c = repa(c)
    return replace(c, alignment=replace(c.alignment, until=0.4))


def irepa(c: Config) -> Config:
    """iREPA: REPA with a convolution as projector and features normalised over the picture.

    A convolution needs all tokens: on a recipe that routes, the last block that sees them is aligned.
    """
    c = repa(c)
    layer = c.alignment.layer if c.routing.keep == 1 else min(c.alignment.layer, c.routing.start)
    return replace(c, alignment=replace(c.alignment, projector="conv", layer=layer))


def lpips(c: Config) -> Config:
    """LPIPS between the predicted and the true picture, at half resolution."""
    return replace(c, perceptual=replace(c.perceptual, lpips=0.1))


def dino(c: Config) -> Config:
    """1 - cosine between the patch features of the predicted and the true picture."""
    return replace(c, perceptual=replace(c.perceptual, dino=0.01))


def adamw(c: Config) -> Config:
    """AdamW on everything, in place of Muon on the blocks' matrices."""
    return replace(c, optim=replace(c.optim, matrices="adamw"))


def normuon(c: Config) -> Config:
    """NorMuon in place of Muon."""
    return replace(c, optim=replace(c.optim, matrices="normuon"))


def polar_express(c: Config) -> Config:
    """Polar Express's polynomials in place of one quintic five times."""
    return replace(c, optim=replace(c.optim, orthogonalization="polar_express"))


def turns(c: Config) -> Config:
    """Muon moves a third of the matrices at each step, three times as far."""
    return replace(c, optim=replace(c.optim, muon_every=3))


def no_ema(c: Config) -> Config:
    """Draws with the trained weights themselves."""
    return replace(c, train=replace(c.train, ema=0.0))


def shared_adaln(c: Config) -> Config:
    """One modulation for all blocks, with a bias each."""
    return replace(c, model=replace(c.model, modulation="shared"))


def text_blocks(c: Config) -> Config:
    """Two trained transformer blocks on the text, ahead of the others."""
    return replace(c, model=replace(c.model, text_blocks=2))


def contrastive(c: Config) -> Config:
    """Contrastive flow matching, at its published weight."""
    return replace(c, diffusion=replace(c.diffusion, contrastive=0.05))


def velocity(c: Config) -> Config:
    """The network predicts velocities in place of clean pictures."""
    return replace(c, model=replace(c.model, predicts="velocity"))


def stack(c: Config) -> Config:
    """TREAD, REPA, LPIPS and DINO together: the whole recipe."""
    return dino(lpips(repa(tread(c))))


def dense(c: Config) -> Config:
    """Nine of ten captions say everything of their picture, and prompts are written out so before they are drawn."""
    return replace(
        c,
        data=replace(c.data, dense=0.9),
        text=replace(c.text, max_tokens=max(96, c.text.max_tokens)),
        sample=replace(c.sample, expand="scenes"),
    )


def short_captions(c: Config) -> Config:
    """Captions that say as little as prompts do, which are drawn as they stand: `dense` off."""
    return replace(c, data=replace(c.data, dense=0.0), sample=replace(c.sample, expand=None))


def convolutions(c: Config) -> Config:
    """Convolutions around the transformer in place of patches, of 24 channels at the full side, twice as many below."""
    channels = tuple(24 * 2**i for i in range(c.model.patch.bit_length() - 1))
    return replace(c, model=replace(c.model, convolutions=channels, start="grey"))


def detail(c: Config) -> Config:
    """A head of convolutions, 8 channels at the full side, adds detail to the prediction, as in DiP and DeCo."""
    return replace(c, model=replace(c.model, detail=8))


def no_repa(c: Config) -> Config:
    """No alignment with a teacher."""
    return replace(c, alignment=replace(c.alignment, weight=0.0))


def no_text_convolutions(c: Config) -> Config:
    """No convolutions on the text."""
    return replace(c, model=replace(c.model, text_convolutions=0))


def no_pooled_text(c: Config) -> Config:
    """The time embedding is told nothing of the text."""
    return replace(c, model=replace(c.model, pooled_text=False))


def no_grounding(c: Config) -> Config:
    """Words have no place: every part of the picture attends to them alike."""
    return replace(c, model=replace(c.model, grounding=False), grounding=replace(c.grounding, weight=0.0))


VARIANTS: dict[str, Callable[[Config], Config]] = {
    f.__name__.replace("_", "-"): f
    for f in (tread, sprint, repa, repa_early, irepa, lpips, dino, adamw, normuon, polar_express, turns, no_ema,
              shared_adaln, text_blocks, contrastive, velocity, stack, dense, short_captions, convolutions, detail,
              no_repa, no_text_convolutions, no_pooled_text, no_grounding)
}  # fmt: skip
