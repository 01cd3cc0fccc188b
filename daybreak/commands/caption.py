"""`daybreak caption`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

from rich.console import Console

from daybreak.commands.choices import one_of
from daybreak.config import ConfigError
from daybreak.data.caption import PROMPT, Captioning, CaptionJob, write_captions
from daybreak.data.engines.tasks import Engine
from daybreak.data.places import join
from daybreak.display import progress_bar


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
