"""The table in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from daybreak.ablate.statistics import Row
from daybreak.ablate.table import FRECHET, HELD_OUT, LOSS, OVERALL, SPEED, Column, variants_of


def show_table(console: Console, results: dict[str, Any]) -> None:
    """Prints one row for each variant; dim differences lie within the spread."""
    variants = variants_of(results)
    columns = [c for c in (OVERALL, HELD_OUT, FRECHET, LOSS, SPEED) if any(c.key in r.figures for r in variants)]
    table = Table(box=None, padding=(0, 2), show_footer=False)
    table.add_column("recipe")
    for column in columns:
        table.add_column(column.title, justify="right")
    for row in variants:
        state = f" [red]{len(row.errors)} crashed[/red]" if row.errors else ""
        table.add_row(row.recipe + state, *(_cell(column, row) for column in columns))
    console.print(table)
    console.print("below: the difference to the first row; dim: within the spread over the seeds", style="dim")
    for row in variants:
        for seed, error in row.errors.items():
            console.print(f"{row.recipe}, seed {seed}, crashed: {error}", markup=False, style="red")


def _cell(column: Column, row: Row) -> str:
    d = row.differences.get(column.key)
    if d is None:
        return column.cell(row)
    return f"{column.cell(row)}\n" + (f"[dim]{column.change(d)}[/dim]" if d.within_spread else column.change(d))
