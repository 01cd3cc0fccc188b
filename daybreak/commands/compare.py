"""`daybreak compare`: runs beside each other, as a table and a plot."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from daybreak.config import ConfigError, documented_fields
from daybreak.display import duration
from daybreak.history.read import SMOOTH, History, read


def show_comparison(console: Console, runs: list[Path], out: Path) -> None:
    """Prints a table of the runs and writes the plot of their losses to the PNG `out`.

    Raises ConfigError for fewer than two runs, for what is no run folder, and where `out` can't be written.
    """
    if len(runs) < 2:
        raise ConfigError("daybreak compare takes two or more run folders")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the plot is written as PNG, so the name should end in .png")
    histories = [read(run) for run in runs]
    table = Table(box=None, padding=(0, 2))
    for column in ("run", "steps", "pictures", "time", "images/s", "loss", "loss at equal pictures", "prompts followed",
                   "score", "metrics", "cost USD", "not applied"):  # fmt: skip
        table.add_column(column, justify="left" if column == "run" else "right")
    equal = min(h.last["images"] for h in histories)
    for h in histories:
        table.add_row(*_row(h, equal))
    console.print(table, highlight=False)
    if differences := _differences(histories):
        console.print(differences, highlight=False)
    _plot(histories, out)
    console.print(f"losses: {out}", highlight=False)


def _row(h: History, equal_images: int) -> list[str]:
    last = h.last
    followed, score = h.followed(), h.score()
    metrics = h.metrics[-1]["values"] if h.metrics else {}
    return [
        str(h.run), f"{last['step']:,}", f"{last['images']:,}", duration(last["seconds"]),
        f"{last['images'] / max(1e-9, last['seconds']):.1f}", f"{h.loss():.4f}", f"{h.loss(equal_images):.4f}",
        "" if followed is None else f"{followed:.0%}", "" if score is None else f"{score:.1%}",
        ", ".join(f"{k} {v:.4g}" for k, v in metrics.items() if v is not None),
        "" if last["cost"] is None else f"{last['cost']:,.2f}", str(len(h.bad_steps) or ""),
    ]  # fmt: skip


def _differences(histories: list[History]) -> Table | None:
    """The settings in which the runs differ."""
    values: dict[str, list[str]] = {}
    for i, h in enumerate(histories):
        for section, fields in documented_fields(h.config):
            for name, value, _ in fields:
                values.setdefault(f"{section}.{name}", [""] * len(histories))[i] = value
    unequal = {k: v for k, v in values.items() if len(set(v)) > 1}
    if not unequal:
        return None
    table = Table(title="settings that differ", title_justify="left", box=None, padding=(0, 2))
    for column in ("setting", *(str(h.run) for h in histories)):
        table.add_column(column)
    for name, each in unequal.items():
        table.add_row(name, *each)
    return table


def _plot(histories: list[History], out: Path) -> None:
    """Losses over pictures seen and over training time, smoothed, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True)
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
    figure.tight_layout()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=120)
    except OSError as e:
        raise ConfigError(f"--out {out} cannot be written: {e.strerror or e}") from None
    finally:
        pyplot.close(figure)
