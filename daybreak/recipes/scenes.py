"""The embedded world, from scratch."""

from __future__ import annotations

from dataclasses import replace

from daybreak.config import Config, DataConfig, DiffusionConfig, ModelConfig, OptimConfig, TextConfig, TrainConfig


def scenes() -> Config:
    """A small model of the embedded world at 32 px, in minutes on a CPU."""
    return Config(
        recipe="scenes",
        data=DataConfig(source="scenes", resolution=32),
        train=TrainConfig(minutes=8.0),
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
        train=TrainConfig(minutes=8.0, batch=256),
    )
