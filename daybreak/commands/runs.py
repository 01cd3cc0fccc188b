"""`daybreak runs`: the runs in a folder, a line each."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from daybreak.config import ConfigError
from daybreak.history import facts
from daybreak.history.read import read
from daybreak.tables import Fact, print_json, print_table
from daybreak.watch.find import find_runs

COLUMNS = ("run", "state", "recipe", "progress", "score", "size", "last heard of")


def show_runs(console: Console, folder: Path, as_json: bool = False) -> None:
    """Prints the runs in `folder` and below, those heard of last first; ConfigError where there is no such folder.

    A run that cannot be read is told with the reason as its state.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; daybreak runs lists the runs in a folder")
    runs = find_runs([folder])
    told = sorted(
        ((_facts(run), name) for name, run in runs.items()), key=lambda row: row[0][-1].value or "", reverse=True
    )
    rows = [row for row, _ in told]
    if as_json:
        print_json(console, rows)
        return
    if not rows:
        console.print(f"no runs in {folder}; daybreak train and daybreak finetune begin one", highlight=False)
        return
    shown = [[escape(name), *(escape(fact.text) for fact in row[1:])] for row, name in told]
    print_table(console, COLUMNS, shown, f"runs in {folder}", left=True)


def _facts(run: Path) -> list[Fact]:
    try:
        h = read(run, tail=True)
        if not h.steps:
            state = "no step yet"
        else:
            known = [*facts.identity(h), *facts.standing(h), *facts.course(h), *facts.disk(h)]
            told = facts.chosen(known, *COLUMNS)
            return [told[0], Fact("state", told[1].value, told[1].value), *told[2:]]
    except ConfigError as e:
        state = str(e)
    except (KeyError, TypeError, OSError) as e:
        state = f"cannot be read: {e!r}"
    return [Fact("run", str(run), str(run)), Fact("state", state, state), *(Fact(name, None) for name in COLUMNS[2:])]
