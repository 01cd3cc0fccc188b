"""`daybreak inspect`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from daybreak.config import ConfigError
from daybreak.data.inspect.findings import examine
from daybreak.data.inspect.look import look_at, report_place
from daybreak.data.inspect.page import as_json, print_report, write_page
from daybreak.data.listing import holds_shards
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.sources import make_plan
from daybreak.data.sides import fitting_side, shorter_sides
from daybreak.tables import print_facts, print_json
from daybreak.terminal import progress_bar


def run_inspect(
    console: Console,
    place: str,
    settings: PrepareSettings,
    size: int | None,
    page: Path | None,
    tokenizer: str | None,
    max_tokens: int,
    strict: bool,
    workers: int | None,
    in_json: bool = False,
) -> bool:
    """`daybreak inspect`: tables, a page; True where `strict` and there are errors.

    size: as which `daybreak prepare` would take the pictures, px; none: the largest that nine of ten have.
    """
    page = page or report_place(place)
    if page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--page {page}: the report is a web page, so the name should end in .html")
    count = token_counter(tokenizer) if tokenizer else None
    shards = holds_shards(place)
    if not shards:
        side = size or fitting_side(
            shorter_sides(make_plan([place], settings), settings), settings.patch, settings.size
        )
        settings = replace(settings, size=side)
    with progress_bar(console) as bar:
        task = bar.add_task("looking", total=None, note="")
        look = look_at(place, settings, workers, lambda done, of: bar.update(task, completed=done, total=of))
    report = examine(look, max_tokens, count)
    try:
        write_page(report, page)
    except OSError as e:
        raise ConfigError(f"--page {page} cannot be written: {e.strerror or e}") from None
    commands = _commands(place, settings.size, shards) if look.rows else {}
    if in_json:
        print_json(console, {**as_json(report), "page": str(page), "commands": commands})
    else:
        if not shards:
            why = "asked for" if size else "the largest that nine of ten pictures have"
            console.print(f"{place}, as daybreak prepare --size {look.size} takes it ({why})", highlight=False)
        print_report(report, console)
        print_facts(console, {"page with pictures": str(page), **commands}.items(), "next", whole=True)
    return strict and report.errors > 0


def _commands(place: str, size: int, shards: bool) -> dict[str, str]:
    """What one types after this."""
    prepare = {} if shards else {"make shards": f"daybreak prepare {place} --out shards --size {size}"}
    return {**prepare, "train on it": f"daybreak train folder --data {place}"}


def token_counter(tokenizer: str) -> Callable[[list[str]], np.ndarray]:
    """Counts tokens with the tokenizer of a model, by its name or folder. ConfigError where it can't be loaded."""
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as e:
        raise ConfigError(f"--tokenizer {tokenizer} cannot be loaded: {str(e).splitlines()[0]}") from None

    def count(captions: list[str]) -> np.ndarray:
        return np.array([len(ids) for ids in loaded(captions)["input_ids"]])

    return count
