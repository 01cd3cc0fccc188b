"""`daybreak plan`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak.config import BudgetConfig, Config
from daybreak.tables import print_json


def run_plan(
    console: Console,
    config: Config,
    text_tokens: int | None,
    gpu: str | None,
    node: int | None,
    calibration: Path | None,
    limits: BudgetConfig,
    as_json: bool = False,
) -> None:
    """`daybreak plan`: a recipe's account; where anything is said of machines, time or money, what it takes on them."""
    from daybreak.plan.forecast import machines
    from daybreak.plan.show import show_forecast, show_plan

    printed = Console(quiet=True) if as_json else console
    found = show_plan(printed, config, text_tokens)
    if limits == BudgetConfig() and (gpu, node, calibration) == (None, None, None):
        if as_json:
            print_json(console, found)
        return
    on = machines(gpu or "h200", limits.gpus or 1, node, calibration)
    b = config.budget
    bounds = [] if b.hours is None else [b.hours]
    if b.usd is not None and b.price is not None:
        bounds.append(b.usd / (b.price * on.gpus))
    printed.print()
    found["forecast"] = show_forecast(printed, config, on, text_tokens, min(bounds) if bounds else None, b.price)
    if as_json:
        print_json(console, found)
