"""`daybreak ablate`: runs the plan, one process after another, and keeps the table up to date."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from daybreak.ablate import plan as plans
from daybreak.arguments import split_arguments
from daybreak.commands.processes import hold, run_process
from daybreak.config import ConfigError


def run_ablate(
    console: Console, arguments: list[str], seeds: int, minutes: float | None, steps: int | None, out: Path | None,
    pictures: int, charge_teacher: float | None,
) -> None:  # fmt: skip
    """`daybreak ablate`; `arguments` holds the recipes and the settings."""
    recipes, settings = split_arguments(arguments)
    plan = plans.make(recipes, seeds, minutes, steps, settings, charge_teacher, pictures)
    folder = out or Path("runs") / f"ablation-{datetime.now():%Y%m%d-%H%M%S}"
    plan.save(folder)
    lock = hold(console, folder, "ablation")
    try:
        _run_all(console, plan, folder, lock)
    except KeyboardInterrupt:
        console.print(f"interrupted; the same command with --out {folder} goes on", highlight=False)
        raise
    finally:
        os.close(lock)


def _run_all(console: Console, plan: plans.Plan, folder: Path, lock: int) -> None:
    runs = plan.runs()
    errors: dict[tuple[str, int], str] = {}
    for number, (recipe, seed) in enumerate(runs, 1):
        name = f"[{number}/{len(runs)}] {recipe}, seed {seed}"
        if finished(folder, recipe, seed) is not None:
            console.print(f"{name}: finished before", markup=False, highlight=False)
            continue
        log = folder / "logs" / f"{recipe}-seed{seed}.log"
        console.print(f"{name}: runs; its output goes to {log}", markup=False, highlight=False, soft_wrap=True)
        began = time.monotonic()
        error = run_process(["daybreak.ablate.one", str(folder), recipe, str(seed)], log, lock)
        if error is not None:
            errors[recipe, seed] = error
            told = f"crashed: {error}"
        else:
            told = _figures(finished(folder, recipe, seed) or {})
        took = f"{time.monotonic() - began:.0f} s in all"
        console.print(f"    {told} ({took})", markup=False, highlight=False, soft_wrap=True)
        _write(plan, folder, errors)
    from daybreak.ablate.show import show_table

    results = _write(plan, folder, errors)
    show_table(console, results)
    for what in ("table.md", "table.csv", "results.json", "ablation.png"):
        console.print(f"  {folder / what}", highlight=False, soft_wrap=True)


def _write(plan: plans.Plan, folder: Path, errors: dict[tuple[str, int], str]) -> dict[str, Any]:
    """Results, table and plot of what there is so far."""
    # Imported here: torch and matplotlib take seconds, for which no mistake has to wait.
    from daybreak.ablate.plot import plot
    from daybreak.ablate.table import write_tables

    measured = {run: finished(folder, *run) for run in plan.runs()}
    results = write_tables(plan, measured, errors, folder)
    plot(results, folder)
    return results


def finished(folder: Path, recipe: str, seed: int) -> dict[str, Any] | None:
    """What a finished run has measured; None where it is not finished."""
    path = plans.run_folder(folder, recipe, seed) / "measures.json"
    try:
        measures: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is damaged: {e}; remove it, and the run is measured again") from None
    return measures


def _figures(m: dict[str, Any]) -> str:
    told = f"{m['images']:,} pictures at {m['images_per_second']:.0f} a second, loss {m['loss']:.4f}"
    if "overall" in m:
        told = f"overall {m['overall']:.1%}, held out {m['held_out']:.1%}, Fréchet {m['frechet']:.3g}; {told}"
    return told
