"""The embedded world, from scratch."""

from __future__ import annotations

from dataclasses import replace

from daybreak.config import (
    Config,
    DataConfig,
    DiffusionConfig,
    GroundingConfig,
    ModelConfig,
    OptimConfig,
    StageConfig,
    TextConfig,
    TrainConfig,
)
from daybreak.recipes.variants import convolutions, dense, repa_early, stack


def scenes() -> Config:
    """A small model of the embedded world at 32 px, in minutes on a CPU."""
    return Config(
        recipe="scenes",
        # Few captions that leave the colour open: what a caption does not say, it does not teach.
        data=DataConfig(source="scenes", resolution=32, task_weights=(0.5, 0.5, 1.0, 1.5, 1.0, 1.5)),
        text=TextConfig(width=96, depth=1, heads=4),
        model=ModelConfig(width=128, depth=4, heads=4, mlp_ratio=2.5, patch=4),
        # Against the published 3 and 0.05: at this size less shift and a higher floor learn sooner (docs/journal.md).
        diffusion=DiffusionConfig(shift=2.0, floor=0.4),
        optim=OptimConfig(muon_lr=0.005, adam_lr=0.002, decay_share=0.6),
        train=TrainConfig(minutes=8.0, batch=48, ema=0.998),
    )


def scenes_demo() -> Config:
    """The embedded world at 32 px as `daybreak demo` trains it: a small model that follows its prompts."""
    base = repa_early(listening(scenes()))
    return replace(
        base,
        recipe="scenes-demo",
        optim=replace(base.optim, muon_lr=0.01),
        train=replace(base.train, batch=24, ema=0.99),
    )


def scenes_box() -> Config:
    """The model that the package carries: the demo's captions and text, convolutions, fifty minutes."""
    base = convolutions(listening(scenes()))
    return replace(
        base,
        recipe="scenes-box",
        optim=replace(base.optim, muon_lr=0.01),
        train=replace(base.train, minutes=50.0, batch=48, ema=0.998, sample_every=0.05),
    )


def listening(base: Config) -> Config:
    """`base` with what makes a small model follow its prompts; each part's worth is in docs/ablations.md.

    Captions that say everything, since what a caption does not say cannot be learnt from it, and short prompts written
    out before they are drawn; words that hear their neighbours through convolutions, and say where they belong.
    """
    base = dense(base)
    return replace(
        base,
        text=replace(base.text, depth=0),
        model=replace(
            base.model, rope_theta=100.0, text_convolutions=2, pooled_text=True, grounding=True, start="identity"
        ),
        grounding=GroundingConfig(weight=1.0),
        sample=replace(base.sample, guidance=1.5),
    )


def scenes_stack() -> Config:
    """Every part of the 24-hour recipe at once, on the embedded world: 32 then 64 px, minutes on a CPU."""
    base = stack(scenes())
    return replace(
        base,
        recipe="scenes-stack",
        train=replace(base.train, posthoc_ema=(0.05, 0.1)),
        stages=(StageConfig(share=0.8), StageConfig(share=0.2, resolution=64, batch=16, alignment=0.0)),
    )


def scenes_gpu() -> Config:
    """The embedded world at 128 px, in minutes on one GPU."""
    base = repa_early(listening(scenes()))
    return replace(
        base,
        recipe="scenes-gpu",
        data=replace(base.data, resolution=128, workers=8),
        text=replace(base.text, width=256),
        model=replace(base.model, width=512, depth=8, heads=8, patch=8),
        diffusion=DiffusionConfig(shift=3.0),
        optim=OptimConfig(muon_lr=0.003, adam_lr=0.001, warmup_steps=200),
        train=TrainConfig(minutes=8.0, batch=256, ema=0.999),
    )
