"""`daybreak ablate`: runs the plan, one process after another, and keeps the table up to date."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from daybreak.ablate import plan as plans
from daybreak.arguments import split_arguments
from daybreak.config import ConfigError

PATIENCE = 60.0
"""Seconds to wait for the run of a killed ablation, which saves before it ends."""


def run_ablate(
    console: Console, arguments: list[str], seeds: int, minutes: float | None, steps: int | None, out: Path | None,
    pictures: int, charge_teacher: float | None,
) -> None:  # fmt: skip
    """`daybreak ablate`; `arguments` holds the recipes and the settings."""
    recipes, settings = split_arguments(arguments)
    plan = plans.make(recipes, seeds, minutes, steps, settings, charge_teacher, pictures)
    folder = out or Path("runs") / f"ablation-{datetime.now():%Y%m%d-%H%M%S}"
    plan.save(folder)
    lock = _lock(console, folder)
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
        error = _run_process(folder, recipe, seed, log, lock)
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


def _run_process(folder: Path, recipe: str, seed: int, log: Path, lock: int) -> str | None:
    """Runs one run to its end; None where it finished, else why not.

    The process belongs to no terminal: an interrupt reaches this process alone, which closes the pipe that the run
    reads from, and so does its death. The run holds the folder's lock too, so that no other ablation comes between.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "daybreak.ablate.one", str(folder), recipe, str(seed)]
    with log.open("a") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )
        assert process.stdin is not None
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.stdin.close()
            process.wait()
            raise
        process.stdin.close()
    if code < 0:
        memory = "; the machine may have run out of memory" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{memory}"
    if code:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip().removeprefix("error: ") if lines else f"exit code {code}"
    return None


def _lock(console: Console, folder: Path) -> int:
    """Holds `folder` for this ablation and its runs; ConfigError where another one keeps it."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    deadline, told = time.monotonic() + PATIENCE, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise ConfigError(f"another ablation is at work in {folder}: choose another --out, or end it") from None
            if not told:
                console.print(f"waiting for a run in {folder} to save and end ...", highlight=False, soft_wrap=True)
                told = True
            time.sleep(0.2)


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
