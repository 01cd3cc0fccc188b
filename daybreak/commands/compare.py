"""`daybreak compare`: runs beside each other, as a table and a plot."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from daybreak.config import ConfigError
from daybreak.history import facts
from daybreak.history.read import SMOOTH, History, read
from daybreak.tables import Fact, print_json, print_table

COLUMNS = ("recipe", "state", "step", "pictures", "training time", "images/s", "loss", "loss at equal pictures",
           "prompts followed", "score", "metrics", "probes", "cost USD", "steps not applied")  # fmt: skip


def show_comparison(console: Console, runs: list[Path], out: Path | None, as_json: bool = False) -> None:
    """Prints a table of the runs and, where `out` is given, writes the plot of their losses to that PNG.

    Raises ConfigError for fewer than two runs, for what is no run folder, and where `out` can't be written.
    """
    if len(runs) < 2:
        raise ConfigError("daybreak compare takes two or more run folders")
    if out is not None and out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the plot is written as PNG, so the name should end in .png")
    histories = [read(run) for run in runs]
    equal = min(h.last["images"] for h in histories)
    told = [_facts(h, equal) for h in histories]
    unequal = _differences(histories)
    if as_json:
        if out is not None:
            _plot(histories, out)
        plot = None if out is None else str(out)
        print_json(console, {"runs": told, "settings_that_differ": unequal, "losses": plot})
        return
    names = [escape(name) for name in short_names(runs)]
    rows = [[name, *(escape(_short(fact)) for fact in row[1:])] for name, row in zip(names, told, strict=True)]
    print_table(console, ("run", *COLUMNS), rows)
    if unequal:
        console.print()
        values = [[h, *(escape(each[i]) for each in unequal.values())] for i, h in enumerate(names)]
        print_table(console, ("", *unequal), values, "settings that differ", left=True, turned=True)
    if out is None:
        console.print("\ntheir curves: --out losses.png, or daybreak watch", highlight=False)
        return
    _plot(histories, out)
    console.print(f"\nlosses: {out}", highlight=False, soft_wrap=True)


def short_names(runs: list[Path]) -> list[str]:
    """The names of run folders, without what is above them where they tell the runs apart."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _facts(h: History, equal_images: int) -> list[Fact]:
    known = [*facts.identity(h), *facts.standing(h), *facts.course(h, equal_images), *facts.expense(h)]
    return facts.chosen(known, "run", *COLUMNS)


def _short(fact: Fact) -> str:
    """As a cell: measurements a line each, and no sentence."""
    if isinstance(fact.value, dict):
        return "\n".join(f"{name} {value:.4g}" for name, value in fact.value.items())
    return str(fact.value or "") if fact.name in ("state", "steps not applied") else fact.text


def _differences(histories: list[History]) -> dict[str, list[str]]:
    """The settings in which the runs differ: a value of each; empty where a run has no such setting.

    Of runs of daybreak train beside runs of daybreak finetune, those that both kinds have.
    """
    settings = [h.named_settings() for h in histories]
    alike = len({type(h.settings) for h in histories}) == 1
    names = [n for n in dict.fromkeys(n for each in settings for n in each) if alike or all(n in s for s in settings)]
    values = {name: [each.get(name, "") for each in settings] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def _plot(histories: list[History], out: Path) -> None:
    """Losses over pictures seen and over training time, smoothed, side by side."""
    from matplotlib.figure import Figure  # pyplot takes as long again to import

    figure = Figure(figsize=(12, 4.5), layout="tight")
    axes = figure.subplots(1, 2, sharey=True)
    for h in histories:
        smooth, value = [], h.steps[0]["loss"]
        for s in h.steps:
            value += (s["loss"] - value) * 2 / (SMOOTH + 1)
            smooth.append(value)
        axes[0].plot([s["images"] for s in h.steps], smooth, label=str(h.run))
        axes[1].plot([s["seconds"] / 60 for s in h.steps], smooth, label=str(h.run))
    for axis, label in zip(axes, ("pictures seen", "minutes of training"), strict=True):
        axis.set_xlabel(label)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("loss (smoothed)")
    axes[0].legend()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=120)
    except OSError as e:
        raise ConfigError(f"--out {out} cannot be written: {e.strerror or e}") from None
