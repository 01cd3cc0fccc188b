"""Figures in a terminal, and as JSON. No number and no name is cut, however narrow the terminal is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daybreak.finite import finite

GAP = 2
"""Columns between two columns of a table."""
INDENT, BELOW = 2, 6
"""Before a name, and before what stands below its name for want of room."""
MOST_NAME = 34
"""A longer name stands on a line of its own."""


@dataclass(frozen=True)
class Fact:
    """Something that is known by a name. value: as JSON has it; None: it is not known. text: as a person reads it."""

    name: str
    value: Any
    text: str = ""


def print_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", left: bool = False,
    turned: bool = False,
) -> None:  # fmt: skip
    """Rows of cells (rich's markup), the first naming the row; columns in which no row says anything are left out.

    Where the table is wider than the terminal it is turned: a line for each column, and beside each other as many rows
    as there is room for. left: numbers are not among the cells, so that all begin at the left. turned: in any case.
    """
    used = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows)]
    columns, rows = [columns[i] for i in used], [[row[i] for i in used] for row in rows]
    _title(console, title)
    if _width([columns, *rows]) > console.width:
        columns = [columns[0], *(name.replace(" ", "\n") for name in columns[1:])]
    if not turned and _width([columns, *rows]) <= console.width:
        _print(console, columns, rows, left)
        return
    columns = [name.replace("\n", " ") for name in columns]
    names = columns[1:]
    while rows:
        fitting = len(rows)
        while fitting and _width([[c, *(r[i] for r in rows[:fitting])] for i, c in enumerate(columns)]) > console.width:
            fitting -= 1
        if fitting == 0:
            console.print(Text.from_markup(rows[0][0], style="bold"), soft_wrap=True)
            print_facts(console, zip(names, rows[0][1:], strict=True), markup=True)
        else:
            shown = rows[:fitting]
            lines = [[name, *(row[i] for row in shown)] for i, name in enumerate(names, start=1)]
            _print(console, [columns[0], *(row[0] for row in shown)], lines, left)
        rows = rows[max(1, fitting) :]
        if rows:
            console.print()


def print_facts(
    console: Console, facts: Iterable[tuple[str, str]], title: str = "", whole: bool = False, markup: bool = False,
    least: int = 0,
) -> None:  # fmt: skip
    """Names and what there is to say of them, one below the other; what says nothing is left out.

    Long texts are broken between words. whole: they stay on one line, as commands do that are copied; what does not fit
    beside its name stands below it. markup: of rich, in both. least: how wide the names' column is at least.
    """
    read: Callable[[str], Text] = Text.from_markup if markup else Text
    shown = [(read(name), read(text)) for name, text in facts if text]
    _title(console, title)
    longest = max((name.cell_len for name, _ in shown), default=0)
    beside = INDENT + min(max(least, longest), MOST_NAME) + GAP
    for name, value in shown:
        room = console.width - beside
        needed = max((len(part) for part in (value.plain.split("\n") if whole else value.plain.split())), default=0)
        below = needed > room
        indent, room = (BELOW, max(needed, console.width - BELOW)) if below else (beside, room)
        lines = list(value.split("\n") if whole else value.wrap(console, room))
        head = Text(" " * INDENT).append_text(name)
        if not below and name.cell_len <= beside - INDENT - GAP:
            head.pad_right(beside - head.cell_len)
            head.append_text(lines.pop(0))
        for line in (head, *(Text(" " * indent).append_text(line) for line in lines)):
            line.rstrip()
            console.print(line, soft_wrap=True, highlight=False)


def print_known(console: Console, facts: Iterable[Fact], title: str = "") -> None:
    """`print_facts` of what is known."""
    print_facts(console, [(f.name, f.text) for f in facts if f.value is not None], title)


def print_json(console: Console, value: Any) -> None:
    """A value as JSON; facts as an object of their names, and numbers that JSON does not know as null."""
    console.out(
        json.dumps(finite(_named(value)), indent=2, ensure_ascii=False, allow_nan=False, default=str), highlight=False
    )


def by_name(facts: Iterable[Fact]) -> dict[str, Any]:
    """The values by their names in JSON: images/s is images_per_s."""
    return {re.sub(r"\W+", "_", fact.name.lower().replace("/", " per ")).strip("_"): fact.value for fact in facts}


def _title(console: Console, title: str) -> None:
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True, highlight=False)


def _print(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], left: bool) -> None:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(Text.from_markup(column), justify="left" if left or number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Of a table with these rows, its head among them."""
    cell: Callable[[str], int] = lambda text: max(Text(line).cell_len for line in _lines(text))  # noqa: E731
    return sum(max(map(cell, column)) + GAP for column in zip(*rows, strict=True)) - GAP


def _lines(markup: str) -> list[str]:
    return Text.from_markup(markup).plain.split("\n")


def _named(value: Any) -> Any:
    """A value in which lists of facts are objects of their names."""
    if isinstance(value, dict):
        return {key: _named(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, Fact) for v in value):
            return _named(by_name(value))
        return [_named(v) for v in value]
    return value
