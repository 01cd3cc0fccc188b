"""`daybreak inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from daybreak.config import ConfigError
from daybreak.data.inspect.findings import examine
from daybreak.data.inspect.look import look_at, report_place
from daybreak.data.inspect.page import print_report, write_page
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.display import progress_bar


def run_inspect(
    console: Console,
    place: str,
    settings: PrepareSettings,
    page: Path | None,
    tokenizer: str | None,
    max_tokens: int,
    strict: bool,
    workers: int | None,
) -> bool:
    """`daybreak inspect`: tables, a page; True where `strict` and there are errors."""
    page = page or report_place(place)
    if page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--page {page}: the report is a web page, so the name should end in .html")
    count = token_counter(tokenizer) if tokenizer else None
    with progress_bar(console) as bar:
        task = bar.add_task("looking", total=None, note="")
        look = look_at(place, settings, workers, lambda done, of: bar.update(task, completed=done, total=of))
    report = examine(look, max_tokens, count)
    print_report(report, console)
    try:
        write_page(report, page)
    except OSError as e:
        raise ConfigError(f"--page {page} cannot be written: {e.strerror or e}") from None
    console.print(f"the page with pictures: {page}", highlight=False, soft_wrap=True)
    return strict and report.errors > 0


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
