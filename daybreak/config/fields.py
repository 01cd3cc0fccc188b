"""The fields of a dataclass of settings: types, bounds and flags as their annotations give them, and their check."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from daybreak.config.bounds import Bounds, Flag, Typed
from daybreak.config.errors import ConfigError, did_you_mean
from daybreak.config.values import convert, needed, one_of


@dataclasses.dataclass(frozen=True)
class Field:
    """A setting. kind: its type without markers and without none. default: MISSING where it has to be given."""

    name: str
    kind: Any
    default: Any
    flag: str
    bounds: Bounds | None
    typed: Typed | None
    choices: tuple[str, ...]

    @property
    def many(self) -> bool:
        """Whether its flag is given several times, once for each value."""
        origin, args = typing.get_origin(self.kind), typing.get_args(self.kind)
        return origin is dict or (origin is tuple and Ellipsis in args and self.typed is None)

    def read(self, text: Any, name: str) -> Any:
        """The value of what was typed: a text, or a list of them where there are `many`."""
        if typing.get_origin(self.kind) is dict:
            assert self.typed is not None
            return dict(self.typed.parse(word, name) for word in text)
        return convert(text, self.kind, name) if self.typed is None else self.typed.parse(text, name)

    def shown(self, value: Any) -> str:
        """A value, or one of many, as it is typed."""
        if self.typed is not None:
            return self.typed.shown(value)
        return ",".join(map(self.shown, value)) if isinstance(value, tuple) else number_text(value)


def number_text(value: Any) -> str:
    """A float without needless digits, if none is lost so; anything else as it is."""
    short = f"{value:g}" if isinstance(value, float) else ""
    return short if short and float(short) == value else str(value)


@functools.cache
def fields_of(kind: type) -> dict[str, Field]:
    """Of a dataclass, by their names. Those that are dataclasses themselves are sections, and not listed."""
    plain, hints = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)
    result = {}
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(plain[f.name]):
            continue
        markers = _markers(hints[f.name])
        found = {type(m): m for m in markers}
        flag = found[Flag].name if Flag in found else "--" + f.name.replace("_", "-")
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        choices = tuple(m for m in markers if isinstance(m, str))
        result[f.name] = Field(
            f.name, needed(plain[f.name]), default, flag, found.get(Bounds), found.get(Typed), choices
        )
    return result


def _markers(hint: Any) -> list[Any]:
    """All that an annotation says beside types: what stands in Annotated, and the words of a Literal."""
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) is Annotated:
        inner, *markers = typing.get_args(hint)
        return _markers(inner) + markers
    return [m for inner in typing.get_args(hint) for m in _markers(inner)]


def flag_of(kind: type, name: str) -> str:
    """The flag by which the field `name` of a dataclass is set."""
    return fields_of(kind)[name].flag


def check_fields(settings: Any, name_of: Callable[[str], str] | None = None) -> None:
    """ConfigError, with the setting's name, for the first value that its annotation does not allow.

    None is allowed wherever it stands; of tuples and dicts each value is checked. name_of: from a field's name to what
    users know it by; without it, its flag.
    """
    for name, field in fields_of(type(settings)).items():
        known, shown = (name_of(name), number_text) if name_of else (field.flag, field.shown)
        value = getattr(settings, name)
        values = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        for one in values:
            if one is None:
                continue
            if field.choices:
                one_of(one, field.choices, known)
            if isinstance(one, float) and not math.isfinite(one):
                raise ConfigError(f"{known} is {one:g}; it must be a number")
            if field.bounds is not None and not field.bounds.hold(one):
                raise ConfigError(f"{known} is {shown(one)}; it must {field.bounds.wanted(shown)}")


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
