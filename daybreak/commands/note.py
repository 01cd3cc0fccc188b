"""`daybreak note`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from daybreak.run_folder import check_run
from daybreak.run_notes import read_notes, write_notes


def run_note(console: Console, run: Path, text: str | None, favourite: bool | None) -> None:
    """Changes what is given, and shows what a run's notes are then."""
    check_run(run)
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
