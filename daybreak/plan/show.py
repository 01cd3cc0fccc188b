"""`daybreak plan`: the account as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from daybreak.config import Config
from daybreak.plan.account import StagePlan, account
from daybreak.plan.forecast import Machines, StageForecast, forecast, work_of
from daybreak.tables import Fact, print_table


def show_plan(console: Console, config: Config, text_tokens: int | None) -> dict[str, Any]:
    """Prints parameters and FLOPs per picture by part, for each stage; returns what it printed, for JSON."""
    plans = account(config, text_tokens)
    told = []
    for index, plan in enumerate(plans):
        c, parts = plan.config, _parts(plan)
        share = config.stages[index].share if config.stages else 1.0
        trained = sum(p.parameters for p in plan.parts if p.trained)
        rows = [[fact.text for fact in part] for part in parts]
        rows.append([f"[bold]{cell}[/bold]" for cell in ("all", _mega(trained), "", "", _giga(plan.training), "")])
        title = f"{config.recipe}: {c.data.resolution} px, batch {c.train.batch}"
        title += f", {share:.1%} of the budget" if config.stages else ""
        columns = ("part", "parameters", "", "GFLOP\nforward", "GFLOP\ntraining", "share")
        print_table(console, columns, rows, title)
        console.print()
        told.append({
            "resolution": c.data.resolution, "batch": c.train.batch, "share_of_budget": share, "parts": parts,
            "trained_parameters": trained, "gflop_training": plan.training / 1e9,
        })  # fmt: skip
    tokens = text_tokens or config.text.max_tokens
    console.print(
        f"Per picture, with captions of {tokens} tokens{'' if text_tokens else ' (the longest that are read)'}; "
        "a multiply-add counts as two.",
        highlight=False,
    )
    found: dict[str, Any] = {"recipe": config.recipe, "text_tokens": tokens, "stages": told}
    if config.train.steps:
        total = images = 0.0
        for index, plan in enumerate(plans):
            steps = config.train.steps * (config.stages[index].share if config.stages else 1)
            images += steps * plan.config.train.batch
            total += steps * plan.config.train.batch * plan.training
        console.print(f"The run: {images / 1e6:,.1f} M pictures, {total:.2e} FLOP.", highlight=False)
        found |= {"pictures": images, "flop": total}
    return found


def show_forecast(
    console: Console, config: Config, on: Machines, text_tokens: int | None, hours: float | None, price: float | None
) -> dict[str, Any]:
    """Prints speed, memory, communication, time and cost of each stage; `hours`: the time that there is for all.

    Returns what it printed, for JSON.
    """
    stages = forecast(config, on, text_tokens)
    times = _stage_hours(config, stages, hours)
    rows = [_row(stage, time, on, price) for stage, time in zip(stages, times, strict=True)]
    title = f"on {on.gpus:,} x {on.gpu.name if on.gpu else 'this computer'}, {on.shards} to a copy of the weights"
    cells = [[fact.text for fact in row] for row in rows]
    print_table(console, [fact.name for fact in rows[0]], cells, title)
    reached = [work_of(s.plan, on.gpus, on.shards) / (on.flops * s.compute) for s in stages]
    notes = [
        f"Speed: {' and '.join(f'{r:.0%}' for r in reached)} of {on.flops / 1e12:,.4g} TFLOP/s in matrix products; "
        f"{on.source}."
    ]
    if small := [s for s in stages if s.plan.config.train.batch < on.gpus]:
        batch = small[0].plan.config.train.batch
        notes.append(f"A batch of {batch:,} has no picture for some of {on.gpus:,} GPUs: set train.batch.")
    largest = [(_at_once(s, on), s.memory.largest(on.gpu.memory)) for s in stages if s.memory and on.gpu]
    if any(at_once > most for at_once, most in largest):
        notes.append("The batch does not fit into memory at once: set train.microbatch, or model.recompute.")
    total = sum(t for t in times if t is not None)
    cost = None if price is None else total * price * on.gpus
    if total:
        notes.append(f"All stages: {total:.2f} hours{'' if cost is None else f', {cost:,.2f} USD'}.")
    for note in notes:
        console.print(note, highlight=False)
    return {"machines": title, "stages": rows, "hours": total or None, "cost_usd": cost, "notes": notes}


def _parts(plan: StagePlan) -> list[list[Fact]]:
    return [
        [
            Fact("part", part.name, part.name),
            Fact("parameters", part.parameters, _mega(part.parameters)),
            Fact("trained", part.trained, "trained" if part.trained else "frozen"),
            Fact("GFLOP forward", part.forward / 1e9, _giga(part.forward)),
            Fact("GFLOP training", part.training / 1e9, _giga(part.training)),
            Fact("share", part.training / plan.training, f"{part.training / plan.training:.0%}"),
        ]
        for part in plan.parts
    ]


def _row(stage: StageForecast, time: float | None, on: Machines, price: float | None) -> list[Fact]:
    """What a stage takes; what is not known is not said."""
    c, memory = stage.plan.config, stage.memory
    largest = memory.largest(on.gpu.memory) * on.gpus if memory and on.gpu else None
    held = None if memory is None else memory.of(_at_once(stage, on)) / 2**30
    pictures = None if time is None else 3600 * time * stage.images_per_second
    cost = None if time is None or price is None else time * price * on.gpus
    return [
        Fact("stage", name := f"{c.data.resolution} px, batch {c.train.batch}", name),
        _figure("images/s", stage.images_per_second, ",.0f" if stage.images_per_second >= 100 else ".3g"),
        _figure("step s", stage.step, ".3g"),
        _figure("communication s", stage.talk, ".3g"),
        _figure("GiB a GPU", held, ".1f"),
        _figure("largest batch", largest, ","),
        _figure("hours", time, ".2f"),
        _figure("pictures", pictures, ",.0f"),
        _figure("cost USD", cost, ",.2f"),
    ]


def _figure(name: str, value: float | None, form: str) -> Fact:
    return Fact(name, value, "" if value is None else f"{value:{form}}")


def _at_once(stage: StageForecast, on: Machines) -> int:
    """Pictures of a GPU in a forward pass."""
    c = stage.plan.config
    mine = -(-c.train.batch // on.gpus)
    return min(mine, c.train.microbatch or mine)


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


def _mega(count: float) -> str:
    return f"{count / 1e6:,.1f} M"
