"""The figures as files: results.json, table.md, table.csv."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from daybreak import __version__
from daybreak.ablate.charge import taught_files
from daybreak.ablate.plan import Plan
from daybreak.ablate.statistics import COMPARED, MEASURES, Difference, Figure, Measured, Row, rows
from daybreak.data.scenes.world import TASKS
from daybreak.files import write_whole


@dataclass(frozen=True)
class Column:
    """A measure as the tables write it: `scale` times its value, with `digits` digits after the point."""

    key: str
    title: str
    scale: float = 1.0
    digits: int = 0

    def cell(self, row: Row) -> str:
        """mean ± spread; a dash where nothing was measured."""
        f = row.figures.get(self.key)
        if f is None:
            return "–"
        spread = f" ± {self._number(f.spread)}" if f.spread is not None else ""
        return f"{self._number(f.mean)}{spread}"

    def difference(self, row: Row) -> str:
        """The difference to the baseline; in brackets where it lies within the spread."""
        d = row.differences.get(self.key)
        if d is None:
            return ""
        return f"({self.change(d)}, within the spread)" if d.within_spread else self.change(d)

    def change(self, difference: Difference) -> str:
        """A difference with its sign."""
        return f"{self.scale * difference.value:+,.{self.digits}f}"

    def _number(self, value: float) -> str:
        return f"{self.scale * value:,.{self.digits}f}"


OVERALL, HELD_OUT = Column("overall", "overall, %", 100, 1), Column("held_out", "held out, %", 100, 1)
FRECHET = Column("frechet", "Fréchet distance", 1, 2)
SPEED = Column("images_per_second", "images/s")
LOSS = Column("loss", "loss", 1, 4)
TASK_COLUMNS = [Column(task, f"{task.replace('_', ' ')}, %", 100, 1) for task in TASKS]
COST_COLUMNS = [
    SPEED,
    Column("images", "pictures seen"),
    Column("steps", "steps"),
    Column("seconds", "training, s", 1, 1),
    Column("charged_seconds", "charged for the teacher, s", 1, 1),
    Column("peak_memory_bytes", "peak memory, GiB", 2**-30, 2),
    Column("parameters", "parameters, M", 1e-6, 2),
]


def write_tables(plan: Plan, measured: Measured, errors: dict[tuple[str, int], str], folder: Path) -> dict[str, Any]:
    """Writes results.json, table.md and table.csv into `folder`; returns what results.json holds.

    measured: for each (recipe, seed) its measures (ablate/one.py), or None. errors: why a run crashed.
    """
    variants = rows(plan, measured, errors)
    results = {
        "daybreak": __version__,
        "torch": torch.__version__,
        "plan": asdict(plan),
        "runs": [
            {"recipe": recipe, "seed": seed, "error": errors.get((recipe, seed)), "measures": measured[recipe, seed]}
            for recipe, seed in plan.runs()
        ],
        "variants": [asdict(row) for row in variants],
    }
    write_whole(folder / "results.json", json.dumps(results, indent=2) + "\n")
    write_whole(folder / "table.md", markdown(plan, variants, [m for m in measured.values() if m is not None]))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(comma_separated(variants))
    return results


def variants_of(results: dict[str, Any]) -> list[Row]:
    """The rows that results.json holds."""
    return [
        Row(
            recipe=v["recipe"],
            finished=v["finished"],
            errors={int(seed): error for seed, error in v["errors"].items()},
            figures={key: Figure(**f) for key, f in v["figures"].items()},
            differences={key: Difference(**d) for key, d in v["differences"].items()},
        )
        for v in results["variants"]
    ]


def comma_separated(variants: list[Row]) -> list[list[object]]:
    """A heading and a row for each variant: every measure in its own unit, spread, difference."""
    heading: list[object] = ["recipe", "finished", "crashed"]
    for key in MEASURES:
        heading += [key, f"{key}_spread"]
    for key in COMPARED:
        heading += [f"{key}_difference", f"{key}_within_spread"]
    table = [heading]
    for row in variants:
        line: list[object] = [row.recipe, row.finished, len(row.errors)]
        for key in MEASURES:
            f = row.figures.get(key)
            line += [f.mean, f.spread] if f else [None, None]
        for key in COMPARED:
            d = row.differences.get(key)
            line += [d.value, d.within_spread] if d else [None, None]
        table.append(line)
    return table


def markdown(plan: Plan, variants: list[Row], measured: list[dict[str, Any]]) -> str:
    """Three tables with a row for each variant (what it reaches, by task, what it takes), and what to know of them."""
    budget = f"{plan.minutes:g} minutes of training" if plan.minutes is not None else f"{plan.steps:,} steps"
    seeds = f"{plan.seeds} seeds" if plan.seeds > 1 else "1 seed, so no spread is known"
    parts = [f"# {' '.join(plan.recipes)}", f"{budget} each, {seeds}."]
    if plan.settings:
        parts.append("Settings: " + " ".join(f"`--{k} {v}`" for k, v in plan.settings))
    reached = [c for c in (OVERALL, HELD_OUT, FRECHET, LOSS) if any(c.key in r.figures for r in variants)]
    heads = [head for c in reached for head in (c.title, "to the baseline")]
    if reached:
        cells = [[cell for c in reached for cell in (c.cell(row), c.difference(row))] for row in variants]
        parts.append(_table(heads, variants, cells))
    if any(c.key in r.figures for c in TASK_COLUMNS for r in variants):
        parts.append(
            _table([c.title for c in TASK_COLUMNS], variants, [[c.cell(r) for c in TASK_COLUMNS] for r in variants])
        )
    charged = any(m["charged_seconds"] for m in measured)
    costs = [c for c in COST_COLUMNS if charged or c.key != "charged_seconds"]
    parts.append(_table([c.title for c in costs], variants, [[c.cell(r) for c in costs] for r in variants]))
    return "\n\n".join([*parts, *_notes(plan, variants, measured)]) + "\n"


def _table(heads: list[str], variants: list[Row], cells: list[list[str]]) -> str:
    lines = [f"| recipe | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    lines += [f"| {row.recipe}{_state(row)} | {' | '.join(line)} |" for row, line in zip(variants, cells, strict=True)]
    return "\n".join(lines)


def _state(row: Row) -> str:
    if not row.errors:
        return "" if row.finished else " (not run yet)"
    return f" (**{len(row.errors)} of {row.finished + len(row.errors)} crashed**)"


def _notes(plan: Plan, variants: list[Row], measured: list[dict[str, Any]]) -> list[str]:
    notes = []
    for row in variants:
        notes += [f"{row.recipe}, seed {seed}, crashed: {error}" for seed, error in row.errors.items()]
    if plan.seeds > 1:
        notes.append(
            "± is the standard deviation over the seeds. A difference is within the spread where it is no larger than "
            "the root of both squared spreads: a single pair of runs with other seeds differs by as much."
        )
    floors = [m["frechet_floor"] for m in measured if "frechet_floor" in m]
    if floors:
        notes.append(
            f"Fréchet distance: {plan.pictures:,} drawn pictures to as many rendered ones of the same captions, in the "
            f"embedded teacher's features; two sets of {plan.pictures:,} rendered pictures lie {floors[0]:.2g} "
            "apart. repa, lpips and dino learn from the same teacher that measures here, which may favour them."
        )
    if any(m["charged_seconds"] for m in measured):
        notes.append(
            f"Recipes with a teacher of `daybreak teach` trained {plan.charge:g} s less: what its own training took."
        )
    elif any(taught_files(plan.config(recipe, 0)) for recipe in plan.recipes):
        notes.append("The training of the recipes' teachers is charged to none here.")
    notes.append(
        "Loss: the velocity term over the last tenth of the steps, of the network as it trains (with routing, on fewer "
        "tokens)."
    )
    if measured:
        loads = [m["load"] for m in measured]
        notes.append(
            f"{measured[0]['device']}, {os.cpu_count()} CPU cores in the machine, torch {torch.__version__}; load "
            f"average at the runs' ends {min(loads):.1f} to {max(loads):.1f}."
        )
    return ["\n".join(f"- {note}" for note in notes)]
