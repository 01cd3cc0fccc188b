"""The end of a run in a terminal: its report, its scores, and what is where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from daybreak.config import Config
from daybreak.data.scenes.world import TASKS
from daybreak.evaluate.report_scenes import ATTRIBUTE_TITLES


def print_report(console: Console, config: Config, run: Path, scores: Mapping[str, Any]) -> None:
    """Prints the `scores` of a run on scenes, where there are any, and what is where."""
    if "overall" in scores:
        table = Table(title="prompts followed, in every attribute", title_justify="left", box=None, padding=(0, 2))
        table.add_column("task")
        table.add_column("share", justify="right")
        for name in TASKS:
            table.add_row(name, f"{scores[name]:.0%}")
        table.add_row("[bold]one and two objects[/bold]", f"[bold]{scores['one_and_two_objects']:.0%}[/bold]")
        table.add_row("[bold]held-out combinations[/bold]", f"[bold]{scores['held_out']:.0%}[/bold]")
        table.add_row("[bold]overall[/bold]", f"[bold]{scores['overall']:.0%}[/bold]")
        console.print(table)
        if "as_they_stand_overall" in scores:
            console.print(
                "prompts were written out before they were sampled; as they stand, one and two objects "
                f"{scores['as_they_stand_one_and_two_objects']:.0%}, held out {scores['as_they_stand_held_out']:.0%}",
                highlight=False,
            )
        right = [
            f"{title} {scores[k]:.0%}" for n, title in ATTRIBUTE_TITLES.items() if (k := f"attribute_{n}") in scores
        ]
        if right:
            console.print(f"right, where the prompt names it: {', '.join(right)}", highlight=False)
    left = Table(title="Output files", title_justify="left", box=None, padding=(0, 2), show_header=False)
    left.add_row("run folder", str(run))
    left.add_row("report", str(run / "report.html"))
    if "overall" in scores:
        left.add_row("grid", str(run / "grid.png"))
        left.add_row("failures", str(run / "failures.png") if (run / "failures.png").exists() else "none")
    left.add_row("TensorBoard", f"tensorboard --logdir {run / 'tensorboard'}")
    left.add_row("sample your own", f'daybreak sample {run} --prompt "{_example_prompt(config)}"')
    console.print(left, soft_wrap=True)


def _example_prompt(config: Config) -> str:
    return "a large red circle above a small blue square" if config.data.source == "scenes" else "your caption here"
