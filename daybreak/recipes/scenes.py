"""The embedded world, from scratch."""

from __future__ import annotations

from dataclasses import replace

from daybreak.config import Config, DataConfig, DiffusionConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig


def scenes() -> Config:
    """A small model of the embedded world at 36 px, in minutes on a CPU."""
    return Config(
        recipe="scenes",
        # Few captions that leave the colour open: what a caption does not say, it does not teach.
        data=DataConfig(source="scenes", resolution=36, task_weights=(0.5, 0.5, 1.0, 1.5, 1.0, 1.5)),
        text=TextConfig(width=96, depth=1, heads=4),
        model=ModelConfig(width=96, depth=4, heads=4, mlp_ratio=2.5, patch=6),
        # Against the published 3 and 0.05: at this size less shift and a higher floor learn sooner (docs/journal.md).
        diffusion=DiffusionConfig(shift=2.0, floor=0.4),
        optim=OptimConfig(muon_lr=0.005, adam_lr=0.002, decay_share=0.8),
        train=TrainConfig(minutes=8.0, batch=48, ema=0.998),
    )


def scenes_gpu() -> Config:
    """The embedded world at 128 px, in minutes on one GPU."""
    base = scenes()
    return replace(
        base,
        recipe="scenes-gpu",
        data=replace(base.data, resolution=128, workers=8),
        text=TextConfig(width=256, depth=3, heads=4),
        model=ModelConfig(width=512, depth=8, heads=8, patch=8, bottleneck=128),
        diffusion=DiffusionConfig(shift=3.0),
        optim=OptimConfig(muon_lr=0.003, adam_lr=0.001, warmup_steps=200),
        train=TrainConfig(minutes=8.0, batch=256, ema=0.999),
    )
