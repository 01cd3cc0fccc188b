"""A teacher that a run of the track trains for itself, first thing and by the same clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daybreak import config as configs
from daybreak.ablate.charge import teacher_names
from daybreak.config import Config, ConfigError
from daybreak.encoders.teacher_file import EMBEDDED

if TYPE_CHECKING:
    from daybreak.data.batch import Source


def teachers_of(config: Config) -> dict[str, str]:
    """Which teacher each setting names that can name one."""
    p = config.perceptual
    return {
        "alignment.teacher": config.alignment.teacher,
        "perceptual.dino_teacher": p.dino_teacher,
        "perceptual.lpips_network": p.lpips_network,
    }


def check_teach(config: Config, settings: Sequence[tuple[str, str]]) -> None:
    """ConfigError where a run of `config` would not learn from a teacher of its own."""
    for key, _ in settings:
        if key in teachers_of(config):
            raise ConfigError(f"--{key} has no effect beside --teach, which trains the teacher: leave one of them out")
    if EMBEDDED not in teacher_names(config):
        raise ConfigError(f"--teach has no effect: {config.recipe} does not learn from the embedded teacher")


def with_own_teacher(config: Config, source: Source, steps: int, file: Path, tell: Callable[[str], object]) -> Config:
    """Trains a teacher of the run's own pictures into `file`; `config` with it in the embedded one's place."""
    from daybreak.encoders.teach import teach

    file.parent.mkdir(parents=True, exist_ok=True)
    teach(source, steps, file, config.train.seed, tell)
    named = [key for key, name in teachers_of(config).items() if name == EMBEDDED]
    return configs.override_all(config, [(key, str(file)) for key in named])
