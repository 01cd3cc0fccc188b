"""Which stage a run is in, and the settings that hold there."""

from __future__ import annotations

import dataclasses

from daybreak.config.overrides import override
from daybreak.config.settings import Config


def at_stage(config: Config, index: int) -> Config:
    """The settings that hold in stage `index` (negative: from the end): a config whose stages are applied already."""
    if not config.stages:
        return config
    s = config.stages[index]
    changes = {
        "data.resolution": s.resolution,
        "train.batch": s.batch,
        "diffusion.shift": s.shift,
        "routing.keep": s.keep,
        "alignment.weight": s.alignment,
        "perceptual.lpips": s.lpips,
        "perceptual.dino": s.dino,
    }
    config = dataclasses.replace(config, stages=())
    for key, value in changes.items():
        if value is not None:
            config = override(config, key, value)
    return config


def stage_at(config: Config, progress: float) -> int:
    """Index of the stage that the run is in when the share `progress` of its budget is used."""
    end = 0.0
    for index, stage in enumerate(config.stages):
        end += stage.share
        if progress < end - 1e-9:
            return index
    return max(0, len(config.stages) - 1)
