"""`--find-lr` of `daybreak train` and `daybreak finetune`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from daybreak.files import make_folder
from daybreak.parallel import Ranks
from daybreak.phases import phase
from daybreak.train.find_lr import find_learning_rate, write_curve
from daybreak.train.trainee import Trainee

FINDING = ".finding-rate"
"""In the run's folder, what daybreak finetune needs to find a rate; it goes once that is found."""


def find_rate(
    console: Console, trainee: Trainee, ranks: Ranks, run: Path, rate: float, flags: Callable[[float], str]
) -> None:
    """Finds a learning rate, writes its curve into the run folder, and prints it.

    rate: the one of the config, by which the curve's axis is scaled; flags: what to type for a factor of it.
    """
    with phase("finding a learning rate"):
        factor, curve = find_learning_rate(trainee, ranks, lambda text: console.print(text, markup=False))
    if ranks.first:
        make_folder(run, "the run folder")
        path = write_curve([(rate * f, loss) for f, loss in curve], rate * factor, run)
        console.print(f"suggested: {flags(factor)}; the curve: {path}", highlight=False, soft_wrap=True)
