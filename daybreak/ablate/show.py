"""The table in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from daybreak.ablate.statistics import Row
from daybreak.ablate.table import FRECHET, HELD_OUT, LOSS, OVERALL, SPEED, Column, variants_of
from daybreak.tables import print_table


def show_table(console: Console, results: dict[str, Any]) -> None:
    """Prints one row for each variant; dim differences lie within the spread."""
    variants = variants_of(results)
    columns = [c for c in (OVERALL, HELD_OUT, FRECHET, LOSS, SPEED) if any(c.key in r.figures for r in variants)]
    rows = []
    for row in variants:
        state = f" [red]{len(row.errors)} crashed[/red]" if row.errors else ""
        rows.append([row.recipe + state, *(_cell(column, row) for column in columns)])
    print_table(console, ["recipe", *(column.title for column in columns)], rows)
    console.print("below: the difference to the first row; dim: within the spread over the seeds", style="dim")
    for row in variants:
        for seed, error in row.errors.items():
            console.print(f"{row.recipe}, seed {seed}, crashed: {error}", markup=False, style="red")


def _cell(column: Column, row: Row) -> str:
    d = row.differences.get(column.key)
    if d is None:
        return column.cell(row)
    return f"{column.cell(row)}\n" + (f"[dim]{column.change(d)}[/dim]" if d.within_spread else column.change(d))
