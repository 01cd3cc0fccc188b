"""A user's own pictures, from scratch."""

from __future__ import annotations

from daybreak.config import Config, DataConfig, DiffusionConfig, ModelConfig, TextConfig, TrainConfig


def folder() -> Config:
    """A small model of your own captioned pictures at 64 px (give them with --data FOLDER)."""
    return Config(
        recipe="folder",
        data=DataConfig(source="folder", resolution=64),
        text=TextConfig(vocabulary=2048, depth=1),
        model=ModelConfig(width=192, depth=4, heads=6, mlp_ratio=2.5, patch=8),
        diffusion=DiffusionConfig(shift=2.0, floor=0.4),
        train=TrainConfig(minutes=10.0, batch=32, ema=0.998),
    )
