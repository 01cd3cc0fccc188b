"""`daybreak embed`."""

from __future__ import annotations

from rich.console import Console

from daybreak.encoders.embed import write_embeddings
from daybreak.encoders.settings import EmbedSettings
from daybreak.terminal import progress_bar


def run_embed(console: Console, shards: str, settings: EmbedSettings) -> None:
    """`daybreak embed`: text features beside the shards."""
    s = settings
    with progress_bar(console) as bar:
        task = bar.add_task("embedding", total=None, note="")
        show = lambda done, of: bar.update(task, completed=done, total=of)  # noqa: E731
        written = write_embeddings(shards, s, show)
    console.print(f"{written / 1e6:,.1f} MB of text features as {s.name}", highlight=False)
    console.print(
        f"train with them: daybreak train RECIPE --data {shards} --data.embeddings {s.name} "
        f"--text.pretrained {s.model} --text.max_tokens {s.max_tokens}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
