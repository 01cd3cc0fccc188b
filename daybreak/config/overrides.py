"""Settings replaced by name: `section.field` and a value, as typed or as YAML gives it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from daybreak.config.errors import ConfigError, did_you_mean
from daybreak.config.fields import kinds_of, sections_of
from daybreak.config.settings import Config, StageConfig
from daybreak.config.values import convert


def override(config: Config, key: str, value: Any) -> Config:
    """`config` with the field `key` ("section.field") replaced.

    `value` is a string as typed on a command line, or a value as YAML gives it. Raises ConfigError for an unknown key
    (naming the nearest one) and for a value of the wrong kind.
    """
    check_name(key, len(config.stages))
    section, _, name = key.rpartition(".")
    if section.startswith("stages."):
        number = int(section.removeprefix("stages."))
        stage = _replaced(config.stages[number], name, value, key)
        stages = (*config.stages[:number], stage, *config.stages[number + 1 :])
        return dataclasses.replace(config, stages=stages)
    if not section:
        return _replaced(config, name, value, key)
    return dataclasses.replace(config, **{section: _replaced(getattr(config, section), name, value, key)})


def override_all(config: Config, changes: Iterable[tuple[str, Any]]) -> Config:
    """`config` with every (name, value) over it, in their order; raises as `override`."""
    for name, value in changes:
        config = override(config, name, value)
    return config


def _replaced(settings: Any, name: str, value: Any, key: str) -> Any:
    """A dataclass with one field replaced by what was typed; key: what users call it."""
    kind = kinds_of(type(settings))[name]
    return dataclasses.replace(settings, **{name: convert(value, kind, key)})


def check_name(key: str, stages: int = 0) -> None:
    """Raises ConfigError, with the nearest name, where no setting is called `key`; `stages`: how many there are."""
    known = field_names(stages)
    if key not in known:
        hint = did_you_mean(key, known, cutoff=0.5) or f"; the sections are {', '.join(sections())}"
        raise ConfigError(f"unknown setting {key}{hint}")


@functools.cache
def field_names(stages: int = 0) -> tuple[str, ...]:
    """Every setting, as "section.field", and "stages.0.field" for each of `stages` stages."""
    names = ["recipe"]
    for section, kind in sections().items():
        names += [f"{section}.{f.name}" for f in dataclasses.fields(kind)]
    for stage in range(stages):
        names += [f"stages.{stage}.{f.name}" for f in dataclasses.fields(StageConfig)]
    return tuple(names)


def sections() -> dict[str, type]:
    """The sections of a config by name, with their dataclasses."""
    return sections_of(Config)
