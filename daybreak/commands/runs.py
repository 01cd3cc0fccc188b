"""`daybreak runs`: the runs in a folder, a line each."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from daybreak.config import ConfigError
from daybreak.history import facts
from daybreak.history.read import read
from daybreak.model_folder import FINETUNED_FILE
from daybreak.tables import Fact, print_json, print_table

COLUMNS = ("run", "state", "recipe", "progress", "score", "size", "last heard of")


def show_runs(console: Console, folder: Path, as_json: bool = False) -> None:
    """Prints the runs in `folder` and below, those heard of last first; ConfigError where there is no such folder.

    A run that cannot be read is told with the reason as its state.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; daybreak runs lists the runs in a folder")
    rows = sorted(map(_facts, find_runs(folder)), key=lambda row: row[-1].value or "", reverse=True)
    if as_json:
        print_json(console, rows)
        return
    if not rows:
        console.print(f"no runs in {folder}; daybreak train and daybreak finetune begin one", highlight=False)
        return
    shown = [[_name(Path(row[0].value), folder), *(escape(fact.text) for fact in row[1:])] for row in rows]
    print_table(console, COLUMNS, shown, f"runs in {folder}", left=True)


def find_runs(folder: Path) -> list[Path]:
    """The folder itself, where it is a run; else the run folders in it, at most two levels below."""
    if is_run(folder):
        return [folder]
    return sorted(p for depth in ("*", "*/*") for p in folder.glob(depth) if p.is_dir() and is_run(p))


def is_run(folder: Path) -> bool:
    """Whether it is a run of daybreak train or daybreak finetune, by its files."""
    return (folder / "config.yaml").is_file() or (folder / FINETUNED_FILE).is_file()


def _name(run: Path, folder: Path) -> str:
    return escape(str(run) if run == folder else str(run.relative_to(folder)))


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
