"""`--help`: what a command does, and every option beside what it means. No flag and no value is cut at 80 columns."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from daybreak.tables import print_facts

PANELS = MAKE, LOOK, JUDGE, USE, DATA = "Make a model", "Look at runs", "Judge", "Use a model", "Prepare data"
"""What one wants to do, in the order in which the help tells it."""
LISTED = re.compile(r"(\S+)\s{2,}(\S.*)")
"""A name and what it means, as `flags.listed` writes them."""


class Command(TyperCommand):
    """A command of typer with this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Prints it."""
        console = Console(highlight=False)
        _print_top(console, ctx)
        _print_options(console, ctx)


class Group(TyperGroup):
    """All commands, under what one wants to do."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Prints it."""
        console = Console(highlight=False)
        _print_top(console, ctx)
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            first = inspect.cleandoc(command.help or "").split("\n\n")[0]
            panels[command.rich_help_panel].append((f"[cyan]{name}[/cyan]", first.replace("\n", " ")))
        width = max(len(name) for name in self.list_commands(ctx))
        for panel, commands in panels.items():
            print_facts(console, commands, panel, markup=True, least=width)
            console.print()
        _print_options(console, ctx)


def _print_top(console: Console, ctx: Any) -> None:
    """How it is called, and the paragraphs of its text."""
    console.print(Text(ctx.command.get_usage(ctx).replace("python -m daybreak", "daybreak")), soft_wrap=True)
    for paragraph in inspect.cleandoc(ctx.command.help or "").split("\n\n"):
        console.print()
        first, *lines = paragraph.split("\n")
        if first.startswith("[bold]Examples"):
            console.print(first)
            for line in lines:
                console.print(Text("  " + line), soft_wrap=True)
        elif lines and all(LISTED.fullmatch(line) for line in lines):
            console.print(first)
            found = [LISTED.fullmatch(line) for line in lines]
            print_facts(console, [(f"[cyan]{m[1]}[/cyan]", m[2]) for m in found if m], markup=True)
        else:
            console.print(" ".join([first, *lines]))
    console.print()


def _print_options(console: Console, ctx: Any) -> None:
    shown = [p for p in ctx.command.get_params(ctx) if not getattr(p, "hidden", False)]
    for title, arguments in (("Arguments", True), ("Options", False)):
        those = [p for p in shown if (p.param_type_name == "argument") == arguments]
        print_facts(console, map(_row, those), title if those else "", markup=True)
        if those and arguments:
            console.print()


def _row(parameter: Any) -> tuple[str, str]:
    """The flag with what it takes, and its meaning with its default."""
    if parameter.param_type_name == "argument":
        name, takes = parameter.metavar or parameter.name.upper(), ""
    else:
        name = ", ".join(_joined(parameter.opts, parameter.secondary_opts))
        takes = "" if getattr(parameter, "is_flag", False) else parameter.metavar or ""
    default = parameter.default
    told = ", ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)
    ends = f" \\[default: {escape(told)}]" if default not in (None, False, True, ()) and not parameter.required else ""
    ends += " \\[required]" if parameter.required else ""
    return f"[cyan]{escape(name)}[/cyan] {escape(takes)}".rstrip(), (parameter.help or "").replace("\n", " ") + ends


def _joined(flags: Iterable[str], opposite: Iterable[str]) -> list[str]:
    """--flip, and --no-flip beside it."""
    return [*flags, *opposite]
