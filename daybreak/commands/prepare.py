"""`daybreak prepare`."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from daybreak.commands.embed import run_embed
from daybreak.data.places import join
from daybreak.data.prepare.run import prepare
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.settings import ModelWork, Work
from daybreak.data.shards.format import DROPPED, NOTES, Index
from daybreak.encoders.settings import EmbedSettings
from daybreak.tables import print_facts
from daybreak.terminal import progress_bar


def run_prepare(
    console: Console,
    sources: list[str],
    out: str,
    settings: PrepareSettings,
    work: Work,
    unfinished: Path | None,
    embed: str | None,
) -> None:
    """`daybreak prepare`: shards, and a summary of what was dropped. unfinished: folder for the work until it is done.

    embed: the text encoder whose features are to lie beside the shards, as `run_embed` makes them by default, with as
    many workers as that chooses: those of `work` work on pictures.
    """
    if embed is not None:  # before hours of work that would end with the news
        from daybreak.encoders.pretrained_text import PretrainedTextEncoder

        PretrainedTextEncoder.find(EmbedSettings(embed).text, "--embed")
    with progress_bar(console) as bar:
        task = bar.add_task("listing", total=None, note="")
        began = time.monotonic()

        def show(stage: str, done: int, of: int, pictures: int) -> None:
            note = f"{pictures / max(1e-3, time.monotonic() - began):.0f} pictures/s" if pictures else ""
            bar.update(task, description=stage, completed=done, total=of, note=note)

        prepared = prepare(sources, out, settings, work.workers, work.engine, unfinished, show)
    if prepared.already:
        console.print(f"{out} was finished before; nothing to do", highlight=False)
    _summary(console, out, prepared.index)
    if embed is not None:
        run_embed(console, out, EmbedSettings(embed, work=ModelWork(engine=work.engine)))


def _summary(console: Console, out: str, index: Index) -> None:
    facts = [
        ("pictures", f"{index.rows:,}"),
        ("shards", f"{len(index.shards)}, {sum(s.bytes for s in index.shards) / 1e6:,.1f} MB"),
        ("of them smaller copies", _copies(index)),
        *((f"dropped: {kind}", f"{count:,}") for kind, count in index.dropped.items()),
        ("why, one by one", join(out, DROPPED) if index.dropped else ""),
        ("what was changed", join(out, NOTES)),
        ("look at it", f"daybreak inspect {out}"),
        ("train on it", f"daybreak train folder --data {out}"),
    ]
    print_facts(console, facts, whole=True)


def _copies(index: Index) -> str:
    """Their size, what they take, and how much that adds to a set without them."""
    if (copies := index.settings.get("copies")) is None:
        return ""
    without = sum(s.bytes for s in index.shards) - copies["bytes"]
    return f"at {copies['size']} px, {copies['bytes'] / 1e6:,.1f} MB: {copies['bytes'] / without:.0%} more than without"
