"""Settings replaced by name: `section.field` and a value, as typed or as YAML gives it."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from daybreak.config.errors import ConfigError, did_you_mean
from daybreak.config.settings import Config, StageConfig
from daybreak.config.values import convert


def override(config: Config, key: str, value: Any) -> Config:
    """`config` with the field `key` ("section.field") replaced.

    `value` is a string as typed on a command line, or a value as YAML gives it. Raises ConfigError for an unknown key
    (naming the nearest one) and for a value of the wrong kind.
    """
    section_name, _, field_name = key.partition(".")
    check_name(key, len(config.stages))
    if section_name == "stages":
        return _override_stage(config, field_name, value)
    if not field_name:
        return dataclasses.replace(config, **{key: convert(value, str, key)})
    section = getattr(config, section_name)
    kind = typing.get_type_hints(type(section))[field_name]
    section = dataclasses.replace(section, **{field_name: convert(value, kind, key)})
    return dataclasses.replace(config, **{section_name: section})


def _override_stage(config: Config, number_and_field: str, value: Any) -> Config:
    """`config` with a field of one stage ("0.resolution") replaced."""
    number, _, name = number_and_field.partition(".")
    kind = typing.get_type_hints(StageConfig)[name]
    stages = list(config.stages)
    new = convert(value, kind, f"stages.{number_and_field}")
    stages[int(number)] = dataclasses.replace(stages[int(number)], **{name: new})
    return dataclasses.replace(config, stages=tuple(stages))


def check_name(key: str, stages: int = 0) -> None:
    """Raises ConfigError, with the nearest name, where no setting is called `key`; `stages`: how many there are."""
    known = field_names(stages)
    if key not in known:
        hint = did_you_mean(key, known, cutoff=0.5) or f"; the sections are {', '.join(sections())}"
        raise ConfigError(f"unknown setting {key}{hint}")


def field_names(stages: int = 0) -> list[str]:
    """Every setting, as "section.field", and "stages.0.field" for each of so many stages."""
    names = ["recipe"]
    for section, kind in sections().items():
        names += [f"{section}.{f.name}" for f in dataclasses.fields(kind)]
    for stage in range(stages):
        names += [f"stages.{stage}.{f.name}" for f in dataclasses.fields(StageConfig)]
    return names


def sections() -> dict[str, type]:
    """The sections of a config by name, with their dataclasses."""
    return {name: kind for name, kind in typing.get_type_hints(Config).items() if hasattr(kind, "__dataclass_fields__")}
