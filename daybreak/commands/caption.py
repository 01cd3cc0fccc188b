"""`daybreak caption`."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from daybreak.config import ConfigError
from daybreak.data.caption import write_captions
from daybreak.data.caption_folder import caption_folder
from daybreak.data.listing import holds_shards
from daybreak.data.places import join
from daybreak.data.settings import CaptionSettings
from daybreak.terminal import progress_bar

SHOWN = 5
"""Pictures without a caption that are named."""


def run_caption(console: Console, place: str, settings: CaptionSettings) -> None:
    """`daybreak caption`: a model's captions beside the shards, or beside the pictures of a folder."""
    shards = holds_shards(place)
    fields = CaptionSettings.__dataclass_fields__
    for name in ("overwrite",) if shards else ("name", "weight"):
        if getattr(settings, name) != fields[name].default:
            of = (
                "shards, where each --name is a set of its own"
                if shards
                else "a folder, where each picture gets a .txt"
            )
            raise ConfigError(f"--{name} has no effect on {of}")
    with progress_bar(console) as bar:
        task = bar.add_task("captioning", total=None, note="")
        show = lambda done, of: bar.update(task, completed=done, total=of)  # noqa: E731
        told = _of_shards(place, settings, show) if shards else _of_folder(place, settings, show)
    for line in told:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _of_shards(place: str, settings: CaptionSettings, show: Callable[[int, int], None]) -> list[str]:
    written = write_captions(place, settings, show)
    return [f"{written:,} captions as {settings.name!r} in {join(place, 'captions', settings.name)}"]


def _of_folder(place: str, settings: CaptionSettings, show: Callable[[int, int], None]) -> list[str]:
    found = caption_folder(place, settings, show)
    kept = f"; {found.kept:,} pictures have captions already (--overwrite writes them anew)" if found.kept else ""
    told = [f"{found.written:,} captions beside the pictures of {place}{kept}"]
    told += [f"no caption for {picture}: {why}" for picture, why in found.left[:SHOWN]]
    return told + ([f"nor for {len(found.left) - SHOWN} others"] if len(found.left) > SHOWN else [])
