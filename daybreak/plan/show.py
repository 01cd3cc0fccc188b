"""`daybreak plan`: the account as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from daybreak.config import Config
from daybreak.plan.account import account
from daybreak.plan.forecast import Machines, StageForecast, forecast, work_of


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


def show_forecast(
    console: Console, config: Config, on: Machines, text_tokens: int | None, hours: float | None, price: float | None
) -> None:
    """Prints speed, memory, communication, time and cost of each stage; `hours`: the time that there is for all."""
    stages = forecast(config, on, text_tokens)
    times = _stage_hours(config, stages, hours)
    table = Table(
        title=f"on {on.gpus:,} x {on.gpu.name if on.gpu else 'this computer'}, {on.shards} to a copy of the weights",
        title_justify="left", title_style="bold", box=None, padding=(0, 2),
    )  # fmt: skip
    for name in ("stage", "images/s", "step s", "communication s", "GiB a GPU", "largest batch", "hours", "pictures",
                 "cost USD"):  # fmt: skip
        table.add_column(name, justify="right")
    fits = True
    for stage, time in zip(stages, times, strict=True):
        c, memory = stage.plan.config, stage.memory
        mine = -(-c.train.batch // on.gpus)
        at_once = min(mine, c.train.microbatch or mine)
        largest = memory.largest(on.gpu.memory) if memory and on.gpu else None
        fits = fits and (largest is None or at_once <= largest)
        table.add_row(
            f"{c.data.resolution} px, batch {c.train.batch}", f"{stage.images_per_second:,.3g}", f"{stage.step:.3g}",
            f"{stage.talk:.3g}", "" if memory is None else f"{memory.of(at_once) / 2**30:.1f}",
            "" if largest is None else f"{largest * on.gpus:,}", "" if time is None else f"{time:.2f}",
            "" if time is None else f"{3600 * time * stage.images_per_second:,.0f}",
            "" if time is None or price is None else f"{time * price * on.gpus:,.2f}",
        )  # fmt: skip
    console.print(table, highlight=False)
    reached = [work_of(s.plan, on.gpus, on.shards) / (on.flops * s.compute) for s in stages]
    console.print(
        f"Speed: {' and '.join(f'{r:.0%}' for r in reached)} of {on.flops / 1e12:,.4g} TFLOP/s in matrix products; "
        f"{on.source}.",
        highlight=False,
    )
    if small := [s for s in stages if s.plan.config.train.batch < on.gpus]:
        batch = small[0].plan.config.train.batch
        console.print(f"A batch of {batch:,} has no picture for some of {on.gpus:,} GPUs: set train.batch.")
    if not fits:
        console.print("The batch does not fit into memory at once: set train.microbatch, or model.recompute.")
    known = [t for t in times if t is not None]
    if known:
        total = sum(known)
        money = "" if price is None else f", {total * price * on.gpus:,.2f} USD"
        console.print(f"All stages: {total:.2f} hours{money}.", highlight=False)


def _stage_hours(config: Config, stages: list[StageForecast], hours: float | None) -> list[float | None]:
    """Hours of each stage: its share of the time there is, or what its steps take."""
    shares = [s.share for s in config.stages] or [1.0]
    if hours is None and config.train.minutes is not None:
        hours = config.train.minutes / 60
    if hours is not None:
        return [share * hours for share in shares]
    if config.train.steps is not None:
        return [config.train.steps * share * s.step / 3600 for share, s in zip(shares, stages, strict=True)]
    return [None] * len(stages)


def _giga(flops: float) -> str:
    """In units of 1e9, to three digits."""
    return f"{flops / 1e9:,.0f}" if flops >= 1e12 else f"{flops / 1e9:.3g}"
