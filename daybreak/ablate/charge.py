"""What a recipe's teachers took to train, which a comparison at equal time charges. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.encoders.teacher_file import taught_file, training_seconds


def teacher_names(config: Config) -> frozenset[str]:
    """The networks that any stage of a run learns from, as the settings name them."""
    found: set[str] = set()
    for index in range(max(1, len(config.stages))):
        c = configs.at_stage(config, index)
        a, p = c.alignment, c.perceptual
        lpips = p.lpips_network if p.lpips_heads is None else p.lpips_heads
        pairs = ((a.weight, a.teacher), (p.lpips, lpips), (p.dino, p.dino_teacher))
        found |= {name for weight, name in pairs if weight}
    return frozenset(found)


def taught_files(config: Config) -> frozenset[Path]:
    """The weights of `daybreak teach`, the embedded ones among them, that any stage of a run learns from."""
    return frozenset(file for name in teacher_names(config) if (file := taught_file(name)) is not None)


def teacher_seconds(file: Path, otherwise: str) -> float:
    """How long a teacher was trained, s; ConfigError, which says what to do `otherwise`, where its file is silent."""
    known = training_seconds(file)
    if known is None:
        raise ConfigError(f"{file} does not say how long its training took, which is to be charged: {otherwise}")
    return known
