"""What the data commands do and show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from daybreak.config import ConfigError, TextConfig
from daybreak.data.caption import PROMPT, Captioning, CaptionJob, write_captions
from daybreak.data.embed import Dtype, EmbedJob, write_embeddings
from daybreak.data.engines.tasks import Engine
from daybreak.data.inspect.findings import examine
from daybreak.data.inspect.look import look_at, report_place
from daybreak.data.inspect.page import print_report, write_page
from daybreak.data.places import join
from daybreak.data.prepare.run import prepare
from daybreak.data.prepare.settings import Duplicates, Encoding, PrepareSettings, parse_captions
from daybreak.data.shards.format import DROPPED, NOTES, Index


def run_prepare(
    console: Console,
    sources: list[str],
    out: str,
    options: dict[str, Any],
    captions: list[str],
    workers: int | None,
    engine: str,
    work: Path | None,
    embed: str | None,
) -> None:
    """`daybreak prepare`: shards, and a summary of what was dropped. `options` are fields of PrepareSettings.

    embed: the text encoder whose features are to lie beside the shards, as `run_embed` makes them by default, with as
    many workers as that chooses: `workers` counts those that work on pictures.
    """
    one_of("--encoding", options["encoding"], Encoding)
    one_of("--duplicates", options["duplicates"], Duplicates)
    one_of("--engine", engine, Engine)
    settings = PrepareSettings(**options, captions=parse_captions(captions))
    text = TextConfig(pretrained=embed, max_tokens=256)
    if embed is not None:  # before hours of work that would end with the news
        from daybreak.encoders.pretrained_text import PretrainedTextEncoder

        PretrainedTextEncoder.find(text)
    with progress_bar(console) as bar:
        task = bar.add_task("listing", total=None, note="")
        began = time.monotonic()

        def show(stage: str, done: int, of: int, pictures: int) -> None:
            note = f"{pictures / max(1e-3, time.monotonic() - began):.0f} pictures/s" if pictures else ""
            bar.update(task, description=stage, completed=done, total=of, note=note)

        prepared = prepare(sources, out, settings, workers, cast(Engine, engine), work, show)
    if prepared.already:
        console.print(f"{out} was finished before; nothing to do", highlight=False)
    _summary(console, out, prepared.index)
    if embed is not None:
        run_embed(console, out, text, "text", "bfloat16", 64, None, None, engine)


def _summary(console: Console, out: str, index: Index) -> None:
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_row("pictures", f"{index.rows:,}")
    table.add_row("shards", f"{len(index.shards)}, {sum(s.bytes for s in index.shards) / 1e6:,.1f} MB")
    for kind, count in index.dropped.items():
        table.add_row(f"dropped: {kind}", f"{count:,}")
    if index.dropped:
        table.add_row("why, one by one", join(out, DROPPED))
    table.add_row("what was changed", join(out, NOTES))
    table.add_row("look at it", f"daybreak inspect {out}")
    table.add_row("train on it", f"daybreak train folder --data {out}")
    console.print(table, soft_wrap=True, highlight=False)


def progress_bar(console: Console) -> Progress:
    """A bar with a note behind it."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # elsewhere nothing would be left of it but an empty line
    )


def one_of(flag: str, value: str, kind: Any) -> None:
    """ConfigError where `value` is none of a Literal's words."""
    if value not in get_args(kind):
        raise ConfigError(f"{flag} is {value!r}; it must be one of {', '.join(get_args(kind))}")


def run_embed(
    console: Console,
    shards: str,
    text: TextConfig,
    name: str,
    dtype: str,
    batch: int,
    cache: Path | None,
    workers: int | None,
    engine: str,
) -> None:
    """`daybreak embed`: text features beside the shards."""
    one_of("--dtype", dtype, Dtype)
    one_of("--engine", engine, Engine)
    job = EmbedJob(shards, name, text, dtype, batch, cache)
    with progress_bar(console) as bar:
        task = bar.add_task("embedding", total=None, note="")

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        written = write_embeddings(job, workers, cast(Engine, engine), show)
    console.print(f"{written / 1e6:,.1f} MB of text features as {name}", highlight=False)
    console.print(
        f"train with them: daybreak train RECIPE --data {shards} --data.embeddings {name} "
        f"--text.pretrained {text.pretrained} --text.max_tokens {text.max_tokens}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def run_inspect(
    console: Console,
    place: str,
    page: Path | None,
    options: dict[str, Any],
    captions: list[str],
    tokenizer: str | None,
    max_tokens: int,
    strict: bool,
    workers: int | None,
) -> bool:
    """`daybreak inspect`: tables, a page; True where `strict` and there are errors."""
    settings = PrepareSettings(**options, captions=parse_captions(captions))
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


def run_caption(
    console: Console,
    shards: str,
    model: str,
    name: str,
    weight: float,
    prompt: str | None,
    max_tokens: int,
    revision: str,
    batch: int,
    cache: Path | None,
    workers: int | None,
    engine: str,
) -> None:
    """`daybreak caption`: a model's captions beside the shards."""
    one_of("--engine", engine, Engine)
    if not 0 < weight < math.inf:
        raise ConfigError(f"--weight is {weight:g}; it must be a number above 0")
    job = CaptionJob(shards, name, Captioning(model, prompt or PROMPT, max_tokens, revision), batch, cache)
    with progress_bar(console) as bar:
        task = bar.add_task("captioning", total=None, note="")

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        written = write_captions(job, weight, workers, cast(Engine, engine), show)
    console.print(
        f"{written:,} captions as {name!r} in {join(shards, 'captions', name)}", highlight=False, soft_wrap=True
    )
