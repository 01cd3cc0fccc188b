"""Settings replaced by name: `section.field` and a value, as typed or as YAML gives it."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal

from daybreak.config.errors import ConfigError
from daybreak.config.settings import Config, StageConfig


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
        return dataclasses.replace(config, **{key: _convert(value, str, key)})
    section = getattr(config, section_name)
    kind = typing.get_type_hints(type(section))[field_name]
    section = dataclasses.replace(section, **{field_name: _convert(value, kind, key)})
    return dataclasses.replace(config, **{section_name: section})


def _override_stage(config: Config, number_and_field: str, value: Any) -> Config:
    """`config` with a field of one stage ("0.resolution") replaced."""
    number, _, name = number_and_field.partition(".")
    kind = typing.get_type_hints(StageConfig)[name]
    stages = list(config.stages)
    new = _convert(value, kind, f"stages.{number_and_field}")
    stages[int(number)] = dataclasses.replace(stages[int(number)], **{name: new})
    return dataclasses.replace(config, stages=tuple(stages))


def check_name(key: str, stages: int = 0) -> None:
    """Raises ConfigError, with the nearest name, where no setting is called `key`; `stages`: how many there are."""
    known = field_names(stages)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; the sections are {', '.join(sections())}"
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


def _convert(value: Any, kind: Any, key: str) -> Any:
    """`value` as a `kind`, which is one of the annotations used above; ConfigError where it can't be."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None or value in ("none", "None", "null"):
            return None
        return _convert(value, next(a for a in args if a is not type(None)), key)
    if origin is Literal:
        if value not in args:
            near = difflib.get_close_matches(str(value), args, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{key} is {value!r}; it must be one of {', '.join(args)}{hint}")
        return value
    if origin is tuple:
        if value in ("none", "") and Ellipsis in args:
            return ()
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ConfigError(f"{key} is {value!r}; it must be a list such as 1,2,3")
        inner = args[0]
        if Ellipsis not in args and len(items) != len(args):
            raise ConfigError(f"{key} needs {len(args)} values, got {len(items)}")
        return tuple(_convert(item, inner, key) for item in items)
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise ConfigError(f"{key} is {value!r}; it must be true or false")
        return words[str(value).lower()]
    if kind is str:
        return str(value)
    try:
        number = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    wanted = "a whole number" if kind is int else "a number"
    if number is None or number != number or number in (float("inf"), float("-inf")):
        raise ConfigError(f"{key} is {value!r}; it must be {wanted}")
    if kind is int:
        if number != int(number):
            raise ConfigError(f"{key} is {value!r}; it must be {wanted}")
        return int(number)
    return number
