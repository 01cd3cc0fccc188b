"""The fields of a dataclass of settings: types, bounds and flags as their annotations give them, and their check."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal

from daybreak.config.bounds import Bounds, Flag, Typed
from daybreak.config.errors import ConfigError, did_you_mean
from daybreak.config.values import convert, needed, one_of, shown

KINDS = {bool: "<bool>", int: "<int>", float: "<number>", str: "<str>", Path: "<path>"}


@dataclasses.dataclass(frozen=True)
class Field:
    """A setting. kind: its type without markers and without none. default: MISSING where it has to be given.

    choices: the words that it may be, where it is one of some. meaning: where the annotation holds it.
    """

    name: str
    kind: Any
    default: Any
    flag: str
    bounds: Bounds | None
    typed: Typed | None
    choices: tuple[str, ...]
    meaning: str

    @classmethod
    def of(cls, name: str, plain: Any, hint: Any, default: Any) -> Field:
        """From an annotation without its markers, `plain`, and with them."""
        choices, found = tuple(_words(plain)), {type(m): m for m in _markers(hint)}
        flag = found[Flag].name if Flag in found else "--" + name.replace("_", "-")
        return cls(name, needed(plain), default, flag, found.get(Bounds), found.get(Typed), choices, found.get(str, ""))

    @property
    def many(self) -> bool:
        """Whether its flag is given several times, once for each value."""
        origin, args = typing.get_origin(self.kind), typing.get_args(self.kind)
        return origin in (dict, list) or (origin is tuple and Ellipsis in args and self.typed is None)

    @property
    def form(self) -> str:
        """What may be typed: words, or the kind of value and its bounds."""
        if self.choices:
            return f"[{'|'.join(self.choices)}]"
        kinds = [KINDS[kind] for kind in typing.get_args(self.kind) or (self.kind,) if kind is not Ellipsis]
        word = ",".join(kinds) if self.typed is None else self.typed.form
        return word if self.bounds is None else f"{word} {self.bounds.words(self.shown)}"

    def read(self, text: Any, name: str) -> Any:
        """The value of a text, or of a list of them where there are `many`; ConfigError for a wrong one."""
        if self.typed is None:
            value = convert(text, self.kind, name)
        else:
            value = dict(self.typed.parse(t, name) for t in text) if self.many else self.typed.parse(text, name)
        self.check(value, name, self.shown)
        return value

    def check(self, value: Any, name: str, write: Callable[[Any], str]) -> None:
        """ConfigError for a value that the annotation does not allow; write: how a number is written.

        None is allowed wherever it stands; of tuples and dicts each value is checked.
        """
        values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else (value,)
        for one in values:
            if one is None:
                continue
            if self.choices:
                one_of(one, self.choices, name)
            if isinstance(one, float) and not math.isfinite(one):
                raise ConfigError(f"{name} is {one:g}; it must be a number")
            if self.bounds is not None and not self.bounds.hold(one):
                raise ConfigError(f"{name} is {write(one)}; it must be {self.bounds.words(write)}")

    def shown(self, value: Any) -> str:
        """A value, or one of many, as it is typed."""
        return shown(value) if self.typed is None else self.typed.shown(value)


@functools.cache
def fields_of(kind: type) -> dict[str, Field]:
    """Of a dataclass, by their names. Those that are dataclasses themselves are sections, and not listed."""
    plain, hints = kinds_of(kind), typing.get_type_hints(kind, include_extras=True)
    result = {}
    for f in dataclasses.fields(kind):
        if not dataclasses.is_dataclass(plain[f.name]):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            result[f.name] = Field.of(f.name, plain[f.name], hints[f.name], default)
    return result


@functools.cache
def sections_of(kind: type) -> dict[str, type]:
    """The fields of a dataclass that are dataclasses themselves, by their names."""
    return {name: hint for name, hint in kinds_of(kind).items() if dataclasses.is_dataclass(hint)}


@functools.cache
def kinds_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, without markers. Kept: a config of two hundred fields asks for each."""
    return typing.get_type_hints(kind)


def _markers(hint: Any) -> list[Any]:
    """All that stands in an annotation beside types."""
    own = list(getattr(hint, "__metadata__", ()))
    inner = typing.get_args(hint)[:1] if own else () if typing.get_origin(hint) is Literal else typing.get_args(hint)
    return own + [m for part in inner for m in _markers(part)]


def _words(plain: Any) -> list[str]:
    """The words of a Literal, also where several of them, or none, may be given."""
    args = typing.get_args(plain)
    return list(args) if typing.get_origin(plain) is Literal else [word for part in args for word in _words(part)]


class Checked:
    """A dataclass that raises ConfigError, naming the flag, for a value that the field's annotation does not allow."""

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(settings: Any, name_of: Callable[[str], str] | None = None) -> None:
    """ConfigError, with the setting's name, for the first value that its annotation does not allow.

    name_of: from a field's name to what users know it by; without it, its flag.
    """
    for name, field in fields_of(type(settings)).items():
        known, write = (name_of(name), shown) if name_of else (field.flag, field.shown)
        field.check(getattr(settings, name), known, write)


def from_words(kind: type, words: Mapping[str, str]) -> Any:
    """A dataclass of name=value as typed, by the fields' names. ConfigError for one that is unknown or wrong."""
    fields = fields_of(kind)
    for name in words:
        if name not in fields:
            raise ConfigError(f"{name} is unknown; there are {', '.join(fields)}{did_you_mean(name, fields)}")
    return kind(**{name: fields[name].read(text, name) for name, text in words.items()})


def as_words(settings: Any) -> list[str]:
    """The options that make these settings of the defaults: ["--deadline", "24h"]."""
    fields = [(field, getattr(settings, name)) for name, field in fields_of(type(settings)).items()]
    return [word for field, value in fields if value != field.default for word in (field.flag, field.shown(value))]
