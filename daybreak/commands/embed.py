"""`daybreak embed`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from rich.console import Console

from daybreak.commands.choices import one_of
from daybreak.config import TextConfig
from daybreak.data.engines.tasks import Engine
from daybreak.display import progress_bar
from daybreak.encoders.embed import Dtype, EmbedJob, write_embeddings


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
