"""From the settings of a command, a dataclass, to its options: one a field, with the field's type, default and meaning.

@app.command()
@with_settings
def serve(settings: ServeSettings, models: list[str]) -> None: ...
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from daybreak.config.documentation import meanings
from daybreak.config.fields import Field, fields_of

METAVARS = {int: "<int>", float: "<number>", str: "<str>", Path: "<path>"}


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as typer takes it: in the place of each parameter that is a dataclass stand options for its fields.

    A parameter of the function's own, or a field of a dataclass before, hides a field of the same name, which then
    keeps its default. What is typed wrongly raises ConfigError.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    own = [p for name, p in inspect.signature(function).parameters.items() if not _is_settings(hints[name])]
    parameters = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]
    settings: dict[str, list[Field]] = {}
    for name, kind in hints.items():
        if _is_settings(kind):
            taken = {p.name for p in parameters}
            leaves = [(field, meaning) for field, meaning in _leaves(kind) if field.name not in taken]
            settings[name] = [field for field, _ in leaves]
            parameters += [_option(field, meaning) for field, meaning in leaves]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        read = {name: _build(hints[name], _values(fields, given)) for name, fields in settings.items()}
        function(**read, **{p.name: given[p.name] for p in own})

    typer_view: Any = command
    typer_view.__signature__ = inspect.Signature(parameters)
    typer_view.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def listed(meanings: Mapping[str, str]) -> str:
    """Names and what they mean, for a command's help: a line each."""
    width = max(map(len, meanings)) + 2
    return "\n\n".join(f"{name:{width}}{escape(meaning)}" for name, meaning in meanings.items())


def _is_settings(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _sections(kind: type) -> dict[str, type]:
    """The fields of a dataclass that are dataclasses themselves."""
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if _is_settings(hint)}


def _leaves(kind: type) -> list[tuple[Field, str]]:
    """The fields with their meanings, those of sections among them."""
    said = meanings(kind)
    fields = [(field, said[name]) for name, field in fields_of(kind).items()]
    return fields + [leaf for section in _sections(kind).values() for leaf in _leaves(section)]


def _values(fields: list[Field], given: dict[str, Any]) -> dict[str, Any]:
    """What was typed, of what is other than the default."""
    typed = [(field, given[field.name]) for field in fields if given[field.name] != _default(field)]
    return {field.name: text if field.kind is bool else field.read(text, field.flag) for field, text in typed}


def _build(kind: type, values: dict[str, Any]) -> Any:
    sections = {name: _build(section, values) for name, section in _sections(kind).items()}
    return kind(**sections, **{name: values[name] for name in fields_of(kind) if name in values})


def _option(field: Field, meaning: str) -> inspect.Parameter:
    default, help_ = _default(field), _help(field, meaning)
    kind: Any = bool if field.kind is bool else list[str] if field.many else str
    info: Any = typer.Option(field.flag, help=help_, metavar=None if kind is bool else _metavar(field))
    if not field.flag.startswith("--"):
        info = typer.Argument(help=help_, metavar=field.flag)
    elif kind is bool and default is not False:
        info = typer.Option(f"{field.flag}/--no-{field.flag[2:]}", help=help_)
    annotation = Annotated[kind if default is inspect.Parameter.empty else kind | None, info]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(field: Field) -> Any:
    """As typer takes it: what would be typed; None where nothing stands for it."""
    if field.default is dataclasses.MISSING:
        return inspect.Parameter.empty
    if field.default is None or field.kind is bool:
        return field.default
    if field.many:
        return [field.shown(value) for value in field.default] or None
    return None if field.default in ((), "") else field.shown(field.default)


def _help(field: Field, meaning: str) -> str:
    """The meaning, which says of an optional setting what happens where it is none: that is then its default."""
    if field.default is None or field.default in ((), {}, ""):
        meaning = re.sub(r"\b(?:none|empty): ", "default: ", meaning)
        meaning = re.sub(r"\b(?:None|Empty): ", "Default: ", meaning)
    return escape(meaning)


def _metavar(field: Field) -> str:
    """What stands for the value in the help: its words, or its kind and range."""
    if field.choices:
        return f"[{'|'.join(field.choices)}]"
    kinds = [kind for kind in typing.get_args(field.kind) or (field.kind,) if kind is not Ellipsis]
    word = field.typed.metavar if field.typed is not None else ",".join(METAVARS[kind] for kind in kinds)
    return word if field.bounds is None else f"{word} [{field.bounds.range(field.shown)}]"
