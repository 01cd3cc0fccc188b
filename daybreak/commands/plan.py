"""`daybreak plan`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak.config import BudgetConfig, Config


def run_plan(
    console: Console,
    config: Config,
    text_tokens: int | None,
    gpu: str | None,
    node: int | None,
    calibration: Path | None,
    limits: BudgetConfig,
) -> None:
    """`daybreak plan`: a recipe's account; where anything is said of machines, time or money, what it takes on them."""
    from daybreak.plan.forecast import machines
    from daybreak.plan.show import show_forecast, show_plan

    show_plan(console, config, text_tokens)
    if limits == BudgetConfig() and (gpu, node, calibration) == (None, None, None):
        return
    on = machines(gpu or "h200", limits.gpus or 1, node, calibration)
    b = config.budget
    bounds = [] if b.hours is None else [b.hours]
    if b.usd is not None and b.price is not None:
        bounds.append(b.usd / (b.price * on.gpus))
    console.print()
    show_forecast(console, config, on, text_tokens, min(bounds) if bounds else None, b.price)
