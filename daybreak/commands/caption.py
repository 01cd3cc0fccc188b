"""`daybreak caption`."""

from __future__ import annotations

from rich.console import Console

from daybreak.data.caption import write_captions
from daybreak.data.places import join
from daybreak.data.settings import CaptionSettings
from daybreak.terminal import progress_bar


def run_caption(console: Console, shards: str, settings: CaptionSettings) -> None:
    """`daybreak caption`: a model's captions beside the shards."""
    with progress_bar(console) as bar:
        task = bar.add_task("captioning", total=None, note="")
        show = lambda done, of: bar.update(task, completed=done, total=of)  # noqa: E731
        written = write_captions(shards, settings, show)
    place = join(shards, "captions", settings.name)
    console.print(f"{written:,} captions as {settings.name!r} in {place}", highlight=False, soft_wrap=True)
