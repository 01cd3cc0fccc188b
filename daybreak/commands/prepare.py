"""`daybreak prepare`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from daybreak.commands.choices import one_of
from daybreak.commands.embed import run_embed
from daybreak.config import TextConfig
from daybreak.data.engines.tasks import Engine
from daybreak.data.places import join
from daybreak.data.prepare.run import prepare
from daybreak.data.prepare.settings import Duplicates, Encoding, PrepareSettings, parse_captions
from daybreak.data.shards.format import DROPPED, NOTES, Index
from daybreak.display import progress_bar


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
