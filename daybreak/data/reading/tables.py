"""Tables as text, CSV and JSONL: their rows with their line numbers, and each line that is not right by itself.

A faulty line costs that line: reading goes on with the next one, so that an unclosed quote swallows nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from daybreak.config import ConfigError
from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.data.places import read_bytes
from daybreak.data.reading.text import TextError, decode_text

SEPARATORS = (",", ";", "\t", "|")
LONGEST = 10_000
"""Lines of one field: more than a caption has, and what an unclosed quote swallows at most before it is noticed."""
_NAME = r'(?:^|{0})"?[^\s"{0}][^"{0}]*({1})"?\s*(?:{0}|$)'
"""A field that is a picture's name, in a line of a CSV file."""


@dataclass
class Table:
    """rows: (line number, column -> value). faults: (line number, what is wrong). notes: of the table as a whole."""

    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_text_table(place: str) -> Table:
    """A CSV or JSONL file. ConfigError where it cannot be read at all, or where none of its lines is right."""
    try:
        text, note = decode_text(read_bytes(place))
    except OSError as e:
        raise ConfigError(f"{place} cannot be read: {e.strerror or e}") from None
    except TextError as e:
        raise ConfigError(f"{place}: {e}") from None
    table = Table(notes=[note] if note else [])
    if place.lower().endswith(".jsonl"):
        _read_jsonl(text, table)
    else:
        _read_csv(text, place, table)
    if not table.rows:
        if not table.faults:
            raise ConfigError(f"{place}: there is no row in it")
        line, why = table.faults[0]
        more = f" (as {len(table.faults) - 1} more)" if len(table.faults) > 1 else ""
        raise ConfigError(f"{place}, line {line} {why}{more}")
    return table


def _read_jsonl(text: str, table: Table) -> None:
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            hint = "; JSONL has one object a line" if number == 1 and line.strip() in ("[", "{") else ""
            table.faults.append((number, f"is not JSON: {e.msg}{hint}"))
            continue
        except RecursionError:
            table.faults.append((number, "is not JSON that can be read: it is nested too deep"))
            continue
        if isinstance(row, dict):
            table.rows.append((number, row))
        else:
            table.faults.append((number, f"should be an object with names, not a {type(row).__name__}"))


class _TooLongError(Exception):
    """A field has more lines than any caption."""


def _read_csv(text: str, place: str, table: Table) -> None:
    csv.field_size_limit(2**31 - 1)
    lines = list(io.StringIO(text, newline=""))
    at = 0
    first = lines[0].rstrip("\r\n") if lines else ""
    if first.lower().startswith("sep=") and len(first) == 5:  # as Excel writes it
        separator, at = first[4], 1
    else:
        separator = _separator(first)
    start = at

    def feed() -> Iterator[str]:
        nonlocal at
        while at < len(lines):
            if at - start > LONGEST:
                raise _TooLongError
            at += 1
            yield lines[at - 1]

    reader = csv.reader(feed(), delimiter=separator, strict=True)
    name = re.compile(_NAME.format(re.escape(separator), "|".join(map(re.escape, PICTURE_SUFFIXES))), re.IGNORECASE)
    header: list[str] = []
    while True:
        start = at
        try:
            fields = next(reader)
        except StopIteration:
            break
        except (csv.Error, _TooLongError) as e:
            table.faults.append((start + 1, _fault(e, at - start)))
            # What an open quote has swallowed is read again, from the line behind it.
            at = start + 1
            reader = csv.reader(feed(), delimiter=separator, strict=True)
            continue
        if not any(f.strip() for f in fields):
            continue
        if not header:
            header = [name.strip() for name in fields]
            if len(set(header)) < len(header):
                twice = next(n for n in header if header.count(n) > 1)
                raise ConfigError(f"{place}: two columns are called {twice!r}; each needs a name of its own")
            continue
        if at - start > 1 and any(name.search(line.rstrip()) for line in lines[start + 1 : at]):
            table.faults.append(
                (start + 1, "has a quote that is not closed: the field goes on over lines that name other files")
            )
            at = start + 1
            reader = csv.reader(feed(), delimiter=separator, strict=True)
            continue
        while len(fields) > len(header) and not fields[-1].strip():
            fields.pop()
        if len(fields) > len(header):
            table.faults.append(
                (start + 1, f'has {len(fields)} fields for {len(header)} columns: put captions in quotes, "..."')
            )
            continue
        table.rows.append((start + 1, dict(zip(header, [*fields, *[None] * (len(header) - len(fields))], strict=True))))


def _fault(error: Exception, lines: int) -> str:
    if isinstance(error, csv.Error) and lines == 1 and "expected after" in str(error):
        return 'has a quote inside a quoted field: write it twice ("")'
    return 'has a quote that is not closed, or one inside a quoted field, where it is written twice ("")'


def _separator(header: str) -> str:
    """What stands between the names of the header: the separator that gives the most of them."""
    return max(SEPARATORS, key=lambda s: len(next(csv.reader([header], delimiter=s), [])))
