"""The end of a run in a terminal: its report, its scores, and what is where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from daybreak.config import Config
from daybreak.data.scenes.world import TASKS
from daybreak.evaluate.report_scenes import ATTRIBUTE_TITLES
from daybreak.tables import print_facts, print_table


def print_report(console: Console, config: Config, run: Path, scores: Mapping[str, Any]) -> None:
    """Prints the `scores` of a run on scenes, where there are any, and what is where."""
    if "overall" in scores:
        names = {
            "one_and_two_objects": "one and two objects",
            "held_out": "held-out combinations",
            "overall": "overall",
        }
        rows = [(name, f"{scores[name]:.0%}") for name in TASKS]
        rows += [(f"[bold]{title}[/bold]", f"[bold]{scores[name]:.0%}[/bold]") for name, title in names.items()]
        print_table(console, ("task", "share"), rows, "prompts followed, in every attribute")
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
    files = {
        "run folder": run, "report": run / "report.html", "grid": run / "grid.png", "failures": run / "failures.png",
    }  # fmt: skip
    there = [(name, str(path)) for name, path in files.items() if path.exists()]
    print_facts(console, there, "output files", whole=True)
    print_next(console, run, _example_prompt(config))


def print_next(console: Console, run: Path, prompt: str) -> None:
    """The commands that one types after a run is over."""
    print_facts(
        console,
        [
            ("draw your own", f'daybreak sample {run} --prompt "{prompt}"'),
            ("draw in a browser", f"daybreak serve {run}"),
            ("see how it went", f"daybreak watch {run}"),
            ("its curves", f"tensorboard --logdir {run / 'tensorboard'}"),
        ],
        "next",
        whole=True,
    )


def _example_prompt(config: Config) -> str:
    return "a large red circle above a small blue square" if config.data.source == "scenes" else "your caption here"
