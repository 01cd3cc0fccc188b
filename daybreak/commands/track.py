"""`daybreak track`: trains an entry's runs, judges them, and writes or verifies the entry; the page of all entries."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from daybreak.commands.processes import hold, run_process
from daybreak.config import ConfigError
from daybreak.tables import print_table
from daybreak.track import entry as entries
from daybreak.track import plan as plans
from daybreak.track.asked import Asked, Make, Verify
from daybreak.track.plan import Plan
from daybreak.track.rules import Target, Track, cores_of
from daybreak.track.verify import compare


def run_asked(console: Console, asked: Asked) -> bool:
    """Does what was asked for; False where an entry was not confirmed."""
    if isinstance(asked, Make):
        run_track(console, asked.plan, asked.out, asked.hidden_seed, asked.checkout, asked.judge)
        return True
    if isinstance(asked, Verify):
        return run_verify(console, asked)
    from daybreak.track.page import keep, show_seed, write_page

    for folder in asked.added:
        console.print(f"  {keep(folder, asked.kept)}", highlight=False, soft_wrap=True)
    if asked.hidden_seed is not None:
        console.print(f"  {show_seed(asked.hidden_seed, asked.kept)}", highlight=False, soft_wrap=True)
    console.print(f"  {write_page(asked.kept)}", highlight=False, soft_wrap=True)
    return True


def run_track(
    console: Console, plan: Plan, folder: Path, hidden_file: Path | None, checkout: Path | None, judge: bool = True
) -> None:  # fmt: skip
    """Trains what is not trained yet, judges it, and writes the entry. Raises ConfigError where a run crashed."""
    seed = plans.judging_seed(plan, hidden_file)
    plan.save(folder)
    lock = hold(console, folder, "entry")
    try:
        _train_all(console, plan, folder, lock, checkout)
        if not judge:
            return
        _show(console, plan.of_track, _judge_all(console, plan, folder, seed, checkout))
    except KeyboardInterrupt:
        console.print(f"interrupted; the same command with --out {folder} goes on", highlight=False, soft_wrap=True)
        raise
    finally:
        os.close(lock)
    console.print(f"  {folder / entries.FILE}", highlight=False, soft_wrap=True)


def run_verify(console: Console, asked: Verify) -> bool:
    """Checks an entry's digests, runs it again, and says whether the second time confirms the first."""
    folder, out = asked.entry, asked.out
    entry, plan = entries.check(folder), plans.load(folder)
    console.print(f"{folder}: {len(entry['files'])} files are as they were when the entry was written", highlight=False)
    if entry["code"] != entries.code_digest():
        console.print("this is other code than the entry's; what is compared is how far it comes", highlight=False)
    run_track(console, plan, out, asked.hidden_seed, asked.checkout)
    track, again = plan.of_track, entries.read(out / entries.FILE)
    found = compare(track, entry, again)
    rows = [
        [c.target.title, _said(c.target, c.told), _said(c.target, c.again), _said(c.target, c.least),
         "confirmed" if c.confirmed else "not confirmed"]
        for c in found
    ]  # fmt: skip
    print_table(console, ["", "the entry", "again", "at most", ""], rows, left=True)
    return all(c.confirmed for c in found)


def _train_all(console: Console, plan: Plan, folder: Path, lock: int, checkout: Path | None) -> None:
    track = plan.of_track
    environment = environment_of(track)
    for seed in range(plan.seeds):
        name = f"[{seed + 1}/{plan.seeds}] {plan.recipe}, seed {seed}"
        if (plans.run_folder(folder, seed) / "clock.json").exists():
            console.print(f"{name}: trained before", markup=False, highlight=False)
            continue
        log = folder / "logs" / f"seed{seed}.log"
        console.print(f"{name}: trains; its output goes to {log}", markup=False, highlight=False, soft_wrap=True)
        # What was compiled before must not help: compilation is charged.
        with tempfile.TemporaryDirectory(prefix="daybreak-track-") as caches:
            for variable in ("DAYBREAK_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
                environment[variable] = str(Path(caches) / variable)
            words = ["daybreak.track.one", str(folder), str(seed), repr(time.time())]
            words += [str(checkout)] if checkout is not None else []
            error = run_process(words, log, lock, environment)
        if error is not None:
            raise ConfigError(f"the run of seed {seed} crashed: {error}")


def _judge_all(
    console: Console, plan: Plan, folder: Path, judging_seed: int, checkout: Path | None
) -> dict[str, Any]:  # fmt: skip
    # Imported here: torch takes seconds, for which no mistake has to wait.
    from daybreak.track.judge import judge_run, open_judge, read_clock
    from daybreak.track.plot import plot

    track, config = plan.of_track, plan.config(0)
    judge = open_judge(track, config, judging_seed)
    runs = []
    for seed in range(plan.seeds):
        run = plans.run_folder(folder, seed)
        console.print(f"judging seed {seed}", highlight=False)
        tell: Callable[[str], None] = lambda text: console.print(f"    {text}", highlight=False)  # noqa: E731
        sheet = folder / entries.PICTURES if seed == 0 else None
        runs.append((read_clock(run), judge_run(judge, run, plan.config(seed), sheet, tell, checkout)))
    plot(track, [(plan.recipe, runs)], folder / "curve.png")
    return entries.make(plan, folder, runs, entries.folder_digest(Path(plan.data)) if plan.data is not None else None)


def environment_of(track: Track) -> dict[str, str]:
    """The variables that a run gets. ConfigError where the track's hardware is not there."""
    if track.device == "gpu":
        import torch

        name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
        if name is None or not any(kind in name for kind in track.gpus):
            kinds = " or ".join(track.gpus)
            raise ConfigError(f"the track {track.name} runs on one GPU ({kinds}), and here is {name or 'none'}")
        return {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    return {"OMP_NUM_THREADS": str(len(cores_of(track))), "CUDA_VISIBLE_DEVICES": ""}


def _show(console: Console, track: Track, entry: dict[str, Any]) -> None:
    rows = []
    for target in track.targets:
        found = entry["figures"][target.name]
        spread = f" ± {_said(target, found['spread'])}" if found["spread"] is not None else ""
        rows.append([target.title, f"{_said(target, found['mean'])}{spread}", f"{found['reached']} of {found['of']}"])
    print_table(console, [entry["recipe"], "mean over seeds", "seeds that reached it"], rows, left=True)


def _said(target: Target, value: float | None) -> str:
    if value is None:
        return "not reached"
    return f"{value:,.0f} s" if target.reach is not None else f"{value:.1f}"
