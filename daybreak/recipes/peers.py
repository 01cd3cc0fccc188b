"""Other people's text-to-image recipes on the embedded world, for the track: their layout and their settings.

Published settings stay as they are, learning rates among them; only what counts steps (warm-up, the average's length)
keeps its share of the run, since runs here are a hundred times shorter. The world's captions are as for everybody. All
have some 1.6 M parameters, our batch and our loop, and our small text encoder, trained with them: theirs were frozen
ones that have read the internet, which the track does not allow.
"""

from __future__ import annotations

from dataclasses import replace

from daybreak.config import Config, DiffusionConfig, ModelConfig, OptimConfig
from daybreak.recipes.scenes import scenes
from daybreak.recipes.variants import dense


def _peer(
    name: str, model: ModelConfig, diffusion: DiffusionConfig, optim: OptimConfig, ema: float, guidance: float
) -> Config:
    """On dense captions, some 5,000 steps in eight minutes. 28 steps of Euler draw, as published for SD 3."""
    base = dense(scenes())
    return replace(
        base,
        recipe=name,
        model=model,
        diffusion=diffusion,
        optim=optim,
        train=replace(base.train, batch=24, ema=ema),
        sample=replace(base.sample, steps=28, guidance=guidance),
    )


def peer_dit() -> Config:
    """DiT with AdamW on the embedded world: adaLN, patches, velocities (SiT), guidance by text; words as keys."""
    return _peer(
        "peer-dit",
        ModelConfig(width=128, depth=5, heads=4, mlp_ratio=8 / 3, patch=4, predicts="velocity"),
        # Published times are uniform: the logit-normal of this width is nearest to that.
        DiffusionConfig(shift=1.0, floor=0.01, logit_std=1.7),
        OptimConfig(matrices="adamw", adam_lr=1e-4, adam_betas=(0.9, 0.999), warmup_steps=0, decay_share=0.0),
        ema=0.991,
        guidance=4.0,
    )


def peer_mmdit() -> Config:
    """MM-DiT (Stable Diffusion 3) on the embedded world: two modulated streams, pooled text, velocities, AdamW."""
    return _peer(
        "peer-mmdit",
        ModelConfig(
            width=112, depth=3, heads=4, mlp_ratio=8 / 3, patch=4, layout="joint", pooled_text=True,
            predicts="velocity",
        ),
        DiffusionConfig(shift=1.0, floor=0.01),
        OptimConfig(matrices="adamw", adam_lr=1e-4, adam_betas=(0.9, 0.999), warmup_steps=10, decay_share=0.0),
        ema=0.99,
        guidance=5.0,
    )  # fmt: skip


def peer_minit2i() -> Config:
    """MiniT2I's layout on the embedded world: two streams that are told no time, two blocks on the text, AdamW."""
    return _peer(
        "peer-minit2i",
        ModelConfig(
            width=128, depth=3, heads=4, mlp_ratio=8 / 3, patch=4, layout="joint", modulation="none", text_blocks=2
        ),
        DiffusionConfig(shift=1.0, floor=0.01, noise_scale=2.0, logit_mean=0.8, logit_std=0.8),
        OptimConfig(matrices="adamw", adam_lr=4e-4, adam_betas=(0.9, 0.95), warmup_steps=100, decay_share=0.0),
        ema=0.9975,
        guidance=6.0,
    )


def peer_prx() -> Config:
    """PRX on the embedded world, as its JiT benchmark with Muon has it: words as keys, clean pictures, no teacher."""
    return _peer(
        "peer-prx",
        ModelConfig(width=128, depth=4, heads=4, mlp_ratio=3.5, patch=4),
        DiffusionConfig(shift=3.0, floor=0.05),
        OptimConfig(muon_lr=1e-4, adam_lr=1e-4, warmup_steps=50, decay_share=0.0, clip_norm=0.2),
        ema=0.9975,
        guidance=3.5,
    )
