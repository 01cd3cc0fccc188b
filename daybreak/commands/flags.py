"""From a command's function to its options: flags, types, defaults and help stand in its signature, or in dataclasses.

    @app.command()
    def serve(settings: ServeSettings, host: Annotated[str, "Address to listen on."] = "127.0.0.1") -> None: ...

A parameter that is a dataclass of settings stands for all its fields; any other one is annotated as a field is, with
its meaning beside it in place of below.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, is_dataclass, replace
from typing import Annotated, Any

import typer
from rich.markup import escape

from daybreak.commands.help import LOOK, Command
from daybreak.config.documentation import meanings
from daybreak.config.fields import Field, fields_of, sections_of


class App(typer.Typer):
    """Typer, for functions that take settings."""

    def command(
        self, name: str | None = None, *, panel: str = LOOK, words: str | None = None, **options: Any
    ) -> Callable[[Any], Any]:
        """Adds a command. What a user types wrongly raises ConfigError.

        panel: under which heading of `daybreak --help` it stands.
        words: what else is typed, beside any setting as --section.field VALUE; the function then finds all that in
        context.args, since which fields there are is not the parser's to know.
        """
        if words is not None:
            options["context_settings"] = {"allow_extra_args": True, "ignore_unknown_options": True}
            options["options_metavar"] = f"{words} [--section.field VALUE ...] [OPTIONS]"
        add = super().command(name, cls=Command, rich_help_panel=panel, **options)
        return lambda function: add(with_settings(function))


def with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as typer takes it, of options alone.

    A parameter of the function's own, or a field of a dataclass before, hides a field of the same name, which then
    keeps its default.
    """
    plain, hints = typing.get_type_hints(function), typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function).parameters
    options: list[inspect.Parameter] = []
    fields: dict[str, list[Field]] = {}
    for name, p in signature.items():
        if is_dataclass(plain[name]):
            taken = {option.name for option in options} | (signature.keys() - {name})
            fields[name] = [field for field in _leaves(plain[name]) if field.name not in taken]
            options += map(_option, fields[name])
        elif plain[name] is typer.Context:
            options.append(p.replace(kind=p.KEYWORD_ONLY, annotation=typer.Context))
        else:
            default = MISSING if p.default is p.empty else p.default
            fields[name] = [Field.of(name, plain[name], hints[name], default)]
            options += map(_option, fields[name])

    @functools.wraps(function)
    def command(**given: Any) -> None:
        read = {name: given[name] for name in signature if name not in fields}
        for name, those in fields.items():
            typed = _values(those, given)
            read[name] = _build(plain[name], typed) if is_dataclass(plain[name]) else typed.get(name, those[0].default)
        function(**read)

    typer_view: Any = command
    typer_view.__signature__ = inspect.Signature(options)
    typer_view.__annotations__ = {p.name: p.annotation for p in options}
    return command


def listed(meanings: Mapping[str, str]) -> str:
    """Names and what they mean, for a command's help: a line each."""
    width = max(map(len, meanings)) + 2
    return "\n".join(f"{name:{width}}{escape(meaning)}" for name, meaning in meanings.items())


def _leaves(kind: type) -> list[Field]:
    """The fields with their meanings, those of sections among them."""
    fields = [replace(field, meaning=meanings(kind)[name]) for name, field in fields_of(kind).items()]
    return fields + [leaf for section in sections_of(kind).values() for leaf in _leaves(section)]


def _values(fields: list[Field], given: dict[str, Any]) -> dict[str, Any]:
    """What was typed, of what is other than the default."""
    typed = [(field, given[field.name]) for field in fields if given[field.name] != _default(field)]
    return {field.name: text if field.kind is bool else field.read(text, field.flag) for field, text in typed}


def _build(kind: type, values: dict[str, Any]) -> Any:
    sections = {name: _build(section, values) for name, section in sections_of(kind).items()}
    return kind(**sections, **{name: values[name] for name in fields_of(kind) if name in values})


def _option(field: Field) -> inspect.Parameter:
    default, help_ = _default(field), _help(field)
    kind: Any = bool if field.kind is bool else list[str] if field.many else str
    info: Any = typer.Option(field.flag, help=help_, metavar=None if kind is bool else field.form)
    if not field.flag.startswith("--"):
        info = typer.Argument(help=help_, metavar=field.flag)
    elif kind is bool and default is not False:
        info = typer.Option(f"{field.flag}/--no-{field.flag[2:]}", help=help_)
    annotation = Annotated[kind if default is inspect.Parameter.empty else kind | None, info]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(field: Field) -> Any:
    """As typer takes it: what would be typed; None where nothing stands for it."""
    if field.default is MISSING:
        return inspect.Parameter.empty
    if field.default is None or field.kind is bool:
        return field.default
    if field.many:
        return [field.shown(value) for value in field.default] or None
    return None if field.default in ((), "") else field.shown(field.default)


def _help(field: Field) -> str:
    """The meaning, which says of an optional setting what happens where it is none: that is then its default."""
    meaning = field.meaning
    if field.default is None or field.default in ((), {}, ""):
        meaning = re.sub(r"\b(?:none|empty): ", "default: ", meaning)
        meaning = re.sub(r"\b(?:None|Empty): ", "Default: ", meaning)
    return escape(meaning)
