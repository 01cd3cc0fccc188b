"""A user's own pictures, from scratch."""

from __future__ import annotations

from daybreak.config import Config, DataConfig, ModelConfig, TextConfig, TrainConfig


def folder() -> Config:
    """A small model of your own captioned pictures at 64 px (give them with --data FOLDER)."""
    return Config(
        recipe="folder",
        data=DataConfig(source="folder", resolution=64),
        text=TextConfig(vocabulary=2048),
        model=ModelConfig(patch=8, bottleneck=64),
        train=TrainConfig(minutes=10.0),
    )
