"""What lies where --data points: prepared shards, or captioned pictures. Opens no picture, and needs no torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.data.places import exists, join

INDEX = "index.json"
"""The file whose presence says that a folder holds finished shards."""


def holds_shards(place: str) -> bool:
    """Whether `place` is a folder of finished shards."""
    return exists(join(place, INDEX))


def check_place(place: str) -> None:
    """ConfigError where --data holds neither shards nor anything to train on."""
    if not holds_shards(place):
        list_items(Path(place).expanduser())


def with_data(config: Config, places: list[str]) -> Config:
    """`config` with the data that --data names: prepared shards where a place holds their index, else a folder.

    Raises ConfigError where several are given and one of them holds no shards.
    """
    plain = [p for p in places if not holds_shards(p)]
    if not plain:
        return configs.override(configs.override(config, "data.source", "shards"), "data.shards", places)
    if len(places) > 1:
        raise ConfigError(
            f"--data {plain[0]} holds no shards, and only shards can be mixed: daybreak prepare makes them"
        )
    return configs.override(configs.override(config, "data.source", "folder"), "data.folder", plain[0])


@dataclass(frozen=True)
class Item:
    """A picture's path and its caption, empty where there is none."""

    path: Path
    caption: str


def list_items(folder: Path) -> list[Item]:
    """The captioned pictures of a folder, in a fixed order.

    Looks for `metadata.jsonl` or `metadata.csv` with `file_name` and `text`; where there is none, for pictures (at any
    depth) with a `.txt` of the same name beside them. Raises ConfigError where the folder is missing, has neither, or
    its metadata cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: no such folder")
    for name, read in (("metadata.jsonl", _read_jsonl), ("metadata.csv", _read_csv)):
        if (folder / name).is_file():
            try:
                return list(read(folder, folder / name))
            except UnicodeDecodeError as e:
                raise ConfigError(f"{folder / name} is not UTF-8 text: {e.reason} at byte {e.start}") from None
    items = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
        beside = path.with_suffix(".txt")
        caption = beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else ""
        items.append(Item(path, caption))
    if not items:
        raise ConfigError(
            f"--data {folder}: nothing to train on; looked for metadata.jsonl or metadata.csv (columns file_name and "
            f"text), and for pictures ({', '.join(s[1:] for s in PICTURE_SUFFIXES)}) with a .txt beside each"
        )
    return items


def _read_jsonl(folder: Path, path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as e:
                raise ConfigError(f"{path}, line {number} is not JSON: {e.msg}") from None
            yield _item(folder, row, f"{path}, line {number}")


def _read_csv(folder: Path, path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            yield _item(folder, row, f"{path}, line {number}")


def _item(folder: Path, row: object, where: str) -> Item:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or "text" not in row:
        keys = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise ConfigError(f"{where} needs file_name and text; it has {keys}")
    text = row["text"]
    return Item(folder / row["file_name"], text.strip() if isinstance(text, str) else "")
