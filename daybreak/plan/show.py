"""`daybreak plan`: the account as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from daybreak.config import Config
from daybreak.plan.account import account


def show_plan(console: Console, config: Config, text_tokens: int | None) -> None:
    """Prints parameters and FLOPs per picture by part, for each stage."""
    plans = account(config, text_tokens)
    for index, plan in enumerate(plans):
        c = plan.config
        share = f", {config.stages[index].share:.1%} of the budget" if config.stages else ""
        table = Table(
            title=f"{config.recipe}: {c.data.resolution} px, batch {c.train.batch}{share}",
            title_justify="left", title_style="bold", box=None, padding=(0, 2),
        )  # fmt: skip
        table.add_column("part")
        for name in ("parameters", "GFLOP forward", "GFLOP training", "share"):
            table.add_column(name, justify="right")
        for part in plan.parts:
            table.add_row(
                part.name, f"{part.parameters / 1e6:,.1f} M{'' if part.trained else ' frozen'}",
                _giga(part.forward), _giga(part.training), f"{part.training / plan.training:.0%}",
            )  # fmt: skip
        trained = sum(p.parameters for p in plan.parts if p.trained)
        table.add_row(
            "[bold]all[/bold]", f"[bold]{trained / 1e6:,.1f} M trained[/bold]", "",
            f"[bold]{_giga(plan.training)}[/bold]", "",
        )  # fmt: skip
        console.print(table)
        console.print()
    tokens = text_tokens or config.text.max_tokens
    console.print(
        f"Per picture, with captions of {tokens} tokens{'' if text_tokens else ' (the longest that are read)'}; "
        "a multiply-add counts as two.",
        highlight=False,
    )
    if config.train.steps:
        total = images = 0.0
        for index, plan in enumerate(plans):
            steps = config.train.steps * (config.stages[index].share if config.stages else 1)
            images += steps * plan.config.train.batch
            total += steps * plan.config.train.batch * plan.training
        console.print(f"The run: {images / 1e6:,.1f} M pictures, {total:.2e} FLOP.", highlight=False)


def _giga(flops: float) -> str:
    """In units of 1e9, to three digits."""
    return f"{flops / 1e9:,.0f}" if flops >= 1e12 else f"{flops / 1e9:.3g}"
