"""`daybreak note`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.run_folder import check_there
from daybreak.run_notes import read_notes, write_notes
from daybreak.watch.find import MARKS, is_run


def run_note(console: Console, run: Path, text: str | None, favourite: bool | None) -> None:
    """Changes what is given, and shows what a run's notes are then."""
    check_there(run)
    if not is_run(run):
        raise ConfigError(f"{run} is no run folder: it holds neither {' nor '.join(MARKS)}")
    notes = read_notes(run)
    if text is not None:
        notes = replace(notes, text=text.strip())
    if favourite is not None:
        notes = replace(notes, favourite=favourite)
    if text is not None or favourite is not None:
        write_notes(run, notes)
    console.print(
        f"{run}: {'a favourite' if notes.favourite else 'no favourite'}, {'noted:' if notes.text else 'no note'}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    if notes.text:
        console.print(notes.text, markup=False, highlight=False, soft_wrap=True)
