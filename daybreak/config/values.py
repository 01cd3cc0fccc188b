"""From a value as typed, or as YAML gives it, to one of a field's type."""

from __future__ import annotations

import contextlib
import math
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from daybreak.config.bounds import Typed
from daybreak.config.errors import ConfigError, did_you_mean

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as a `kind`, a type that settings have; ConfigError, with the setting's `name`, where it can't be."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None or value in ("none", "None", "null") else convert(value, needed(kind), name)
    if origin is Literal:
        return one_of(value, args, name)
    if origin is tuple:
        if value in ("none", "") and Ellipsis in args:
            return ()
        items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ConfigError(f"{name} is {value!r}; it must be a list such as 1,2,3")
        if Ellipsis not in args and len(items) != len(args):
            raise ConfigError(f"{name} needs {len(args)} values, got {len(items)}")
        return tuple(convert(item, args[0], name) for item in items)
    if origin is list:
        return [convert(item, args[0], name) for item in value]
    if kind is bool:
        if str(value).lower() not in WORDS:
            raise ConfigError(f"{name} is {value!r}; it must be true or false")
        return WORDS[str(value).lower()]
    if kind in (str, Path):
        return kind(value)
    number: float = math.nan
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError):
            number = float(value)
            number = int(str(value))  # which keeps all digits
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ConfigError(f"{name} is {value!r}; it must be {'a whole number' if kind is int else 'a number'}")
    return kind(number)


def shown(value: Any) -> str:
    """A value as it is typed: `convert` reads it again."""
    if isinstance(value, tuple):
        return ",".join(map(shown, value)) or "none"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def one_of(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    """`value`; ConfigError, with the nearest of the choices, where it is none of them."""
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(choices)}{hint}")
    return value


def some_of(known: Collection[str]) -> Typed:
    """Some of the words that there are, with commas between them."""

    def parse(text: str, name: str) -> tuple[str, ...]:
        words = dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip())
        return tuple(one_of(word, tuple(known), name) for word in words or ("",))

    return Typed(parse, "NAME,...", ",".join)


def needed(kind: Any) -> Any:
    """The type that is meant where a setting may also be none: that of `int | None` is int."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(kind) if a is not type(None))
    return kind
