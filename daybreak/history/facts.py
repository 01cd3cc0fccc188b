"""What there is to say of a run, each thing by its name: `daybreak runs`, `status` and `compare` tell some of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from daybreak import checkpoint_files as folders
from daybreak.files import folder_bytes
from daybreak.history.read import History, checkpoints
from daybreak.tables import Fact
from daybreak.terminal import duration
from daybreak.train.deadline import FILE
from daybreak.watch.state import began, modified, state_of


def identity(h: History) -> list[Fact]:
    """The run, its recipe, and whether it trains."""
    state = told = state_of(h.run, h.last, began(h.run))
    if state == "stopped":
        silent = time.time() - modified(h.run / "log.jsonl")
        told = f"no step for {duration(silent)}; continue with: {h.go_on}"
    return [Fact("run", str(h.run), str(h.run)), Fact("recipe", h.recipe, h.recipe), Fact("state", state, told)]


def standing(h: History) -> list[Fact]:
    """How far the run is, how fast, and when it will be over."""
    last = h.last
    stage, stages = h.stage
    left = None if last["progress"] >= 1 else last.get("seconds_to_end", last.get("seconds_left"))
    return [
        Fact("stage", stage if stages > 1 else None, f"{stage} of {stages}"),
        _share("progress", last["progress"], 1),
        _count("step", last["step"]),
        _count("pictures", last["images"]),
        Fact("training time", last["seconds"], duration(last["seconds"])),
        Fact("time left", left, "" if left is None else duration(left)),
        _deadline(h),
        _number("images/s", last["images_per_second"], ".1f"),
        _share("waiting for data", last.get("waiting")),
    ]


def course(h: History, equal_images: int | None = None) -> list[Fact]:
    """Losses and what else was measured; equal_images: the loss is also told after so many pictures."""
    last = h.last
    levels = {n.split("/")[1]: v for s in h.steps for n, v in s.get("measured", {}).items() if "loss_at_noise/" in n}
    levels = dict(sorted(levels.items()))
    equal = None if equal_images is None else h.loss(equal_images)
    return [
        _number("loss", h.loss(), ".4f"),
        _number("loss at equal pictures", equal, ".4f"),
        Fact("loss by noise level", levels or None, _listed(levels, ".3g")),
        Fact("learning rate", last["lr_factor"], f"{last['lr_factor']:.0%} of the highest"),
        _share("prompts followed", h.followed()),
        _values("metrics", h.metrics),
        _values("probes", h.probes),
        _share("score", h.score(), 1),
        Fact("steps not applied", len(h.bad_steps) or None, f"{len(h.bad_steps)}, told in {h.run / 'bad_steps.jsonl'}"),
    ]


def expense(h: History) -> list[Fact]:
    """What of the machine and of money the run takes."""
    last, mfu = h.last, h.measured("mfu")
    return [
        Fact("efficiency", mfu, "" if mfu is None else f"{mfu:.0%} of what the device multiplies, in the transformer"),
        _number("GPU memory GiB", h.measured("memory_gib"), ".1f"),
        _number("main memory GiB", h.measured("host_memory_gib"), ".1f"),
        _number("cost USD", last.get("cost"), ",.2f"),
        _number("cost at the end USD", last.get("cost_forecast"), ",.2f"),
    ]


def stored(h: History) -> list[Fact]:
    """What is on the disk; reads every checkpoint."""
    best = folders.best(h.run).get("name")
    found = [{"name": name, "best": name == best, "damage": why} for name, why in checkpoints(h.run)]
    damage = {f["name"]: f" DAMAGED: {f['damage']}" if f["damage"] else "" for f in found}
    lines = [f"{f['name']}{' (best)' if f['best'] else ''}{damage[f['name']]}" for f in found]
    page = next((p for p in (h.run / "report.html", h.run / "report" / "report.html") if p.is_file()), None)
    return [
        Fact("report", None if page is None else str(page), str(page)),
        *disk(h),
        Fact("checkpoints", found, "\n".join(lines) or "none"),
    ]


def disk(h: History) -> list[Fact]:
    """The size of the folder, and when something was heard of the run."""
    size, heard = folder_bytes(h.run), datetime.fromtimestamp((h.run / "log.jsonl").stat().st_mtime)
    form = "%d %b %H:%M" if heard.year == datetime.now().year else "%Y-%m-%d"
    return [
        Fact("size", size, f"{size / 1e6:,.1f} MB"),
        Fact("last heard of", heard.isoformat(timespec="seconds"), heard.strftime(form)),
    ]


def chosen(facts: Iterable[Fact], *names: str) -> list[Fact]:
    """Some of the facts, in the order of `names`."""
    by_name = {fact.name: fact for fact in facts}
    return [by_name[name] for name in names]


def _deadline(h: History) -> Fact:
    end = None
    if h.last["progress"] < 1:
        with suppress(OSError, ValueError, AttributeError):
            end = json.loads((h.run / FILE).read_text()).get("end")
    if end is None:
        return Fact("deadline", None)
    moment = datetime.fromtimestamp(end)
    return Fact("deadline", moment.isoformat(timespec="seconds"), f"{moment:%Y-%m-%d %H:%M:%S}")


def _values(name: str, events: list[dict[str, Any]]) -> Fact:
    """The newest of what is measured now and then."""
    if not events:
        return Fact(name, None)
    values = {k: v for k, v in events[-1]["values"].items() if v is not None}
    return Fact(name, values, f"{_listed(values, '.4g')} after {events[-1]['images']:,} pictures")


def _listed(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def _count(name: str, value: int) -> Fact:
    return Fact(name, value, f"{value:,}")


def _number(name: str, value: float | None, form: str) -> Fact:
    return Fact(name, value, "" if value is None else f"{value:{form}}")


def _share(name: str, value: float | None, digits: int = 0) -> Fact:
    return Fact(name, value, "" if value is None else f"{value:.{digits}%}")
