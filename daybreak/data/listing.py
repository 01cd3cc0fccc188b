"""What lies where --data points: prepared shards, or captioned pictures. Opens no picture, and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.places import exists, is_remote, join
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.settings import Lines, Reading
from daybreak.data.reading.sources import Plan, make_plan
from daybreak.data.shards.format import INDEX


def holds_shards(place: str) -> bool:
    """Whether `place` is a folder of finished shards."""
    return exists(join(place, INDEX))


_ahead: dict[tuple[str, Lines], Plan] = {}
"""Plans of folders that were looked at and not opened yet. A large folder takes long to list."""


def check_place(place: str, reading: Reading | None = None) -> None:
    """ConfigError where --data holds neither shards nor anything to train on. No picture is opened."""
    if not holds_shards(place):
        _plan(place, reading or Reading())


def plan_ahead(place: str, lines: Lines) -> Plan | None:
    """As `check_place`; the plan is kept for `plan_of`, which opens the folder. None of shards."""
    if holds_shards(place):
        return None
    place = place if is_remote(place) else str(Path(place).expanduser())
    _ahead[place, lines] = _plan(place, Reading(lines=lines))
    return _ahead[place, lines]


def plan_of(place: str, reading: Reading, flag: str = "--data") -> Plan:
    """How captioned pictures are read; ConfigError, which names `flag`, where there are none."""
    known = _ahead.pop((place, reading.lines), None) if reading == Reading(lines=reading.lines) else None
    return known or _plan(place, reading, flag)


def _plan(place: str, reading: Reading, flag: str = "--data") -> Plan:
    try:
        return make_plan([place], reading)
    except ConfigError as e:
        raise ConfigError(f"{flag} {e}") from None


def with_data(config: Config, places: list[str]) -> Config:
    """`config` with the data that --data names: prepared shards where a place holds their index, else a folder.

    What only `scenes` knows is left out (`of_pictures`). Raises ConfigError where several are given and one of them
    holds no shards.
    """
    config = of_pictures(config)
    plain = [p for p in places if not holds_shards(p)]
    if not plain:
        return configs.override(configs.override(config, "data.source", "shards"), "data.shards", places)
    if len(places) > 1:
        raise ConfigError(
            f"--data {plain[0]} holds no shards, and only shards can be mixed: daybreak prepare makes them"
        )
    return configs.override(configs.override(config, "data.source", "folder"), "data.folder", plain[0])


def of_pictures(config: Config) -> Config:
    """`config` without what only `scenes` has: dense captions, words whose place is known, rules that expand."""
    expand = None if config.sample.expand == "scenes" else config.sample.expand
    return replace(
        config,
        data=replace(config.data, dense=0.0),
        grounding=replace(config.grounding, weight=0.0),
        sample=replace(config.sample, expand=expand),
    )


@dataclass(frozen=True)
class Item:
    """A picture's path and its caption, empty where there is none."""

    path: Path
    caption: str


def list_items(folder: Path) -> list[Item]:
    """The pictures of a folder that are files, in a fixed order, each with its first caption where it has any.

    Raises ConfigError where the folder is missing, holds no pictures, or its metadata cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: no such folder")
    reading = Reading(uncaptioned=True)
    rows = source_rows(make_plan([str(folder)], reading), reading)
    return [Item(Path(row.place), first_caption(row)) for row in rows if row.place is not None]


def first_caption(row: RawRow) -> str:
    """A row's first caption, empty where it has none."""
    return next((texts[0] for texts in row.captions.values() if texts), "")
