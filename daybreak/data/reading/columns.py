"""Which column holds the picture and which the caption, in tables that others have made: by name and by content."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.places import is_remote
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.text import captions_in

IMAGE_NAMES = (
    *("image", "file_name", "image_path", "path", "file", "filename", "filepath", "file_path"),
    *("url", "image_url", "img", "img_path", "jpg", "jpeg", "png", "webp", "picture", "photo", "images"),
)
CAPTION_NAMES = ("caption", "text", "captions", "prompt", "description", "txt", "long_caption", "alt", "title")
SAMPLED = 32
"""Rows by whose content the picture's column is told."""


class NoImageColumnError(ConfigError):
    """Not one column of a table names or holds pictures."""


def image_column(
    columns: list[str], rows: list[dict[str, Any]], reading: Reading, where: str, there: Callable[[str], bool]
) -> str:
    """The column with pictures, paths or addresses. ConfigError, with what there is, where none or several can be it.

    rows: the first of the table; `there` says whether a path exists. A column is a candidate where one of its values
    is a picture, a path that exists, or an address. Of several the usual names decide; bytes go before paths.
    """
    if reading.image_column is not None:
        if reading.image_column in columns:
            return reading.image_column
        raise ConfigError(f"{where} has no column {reading.image_column}; --image-column may be {_list(columns)}")
    strength = {c: max((_strength(row.get(c), there) for row in rows), default=0) for c in columns}
    named = [c for name in IMAGE_NAMES for c in columns if c.lower() == name]
    candidates = [c for c in columns if strength[c] > 0]
    if not candidates:
        if named:  # none of the first rows has its picture: the rows will say so one by one
            return named[0]
        raise NoImageColumnError(
            f"{where}: which column holds the picture or its path? Say so with --image-column: {_list(columns)}"
        )
    usual = [c for c in candidates if c in named] or candidates
    strongest = [c for c in usual if strength[c] == max(strength[u] for u in usual)]
    if len(strongest) == 1:
        return strongest[0]
    raise ConfigError(
        f"{where}: several columns hold pictures ({_list(strongest)}): which is it? Say so with --image-column"
    )


def _strength(value: Any, there: Callable[[str], bool]) -> int:
    """3: holds a picture; 2: names one that is there; 1: an address, which is not tried; 0: none of these."""
    value = first_of(value)
    if isinstance(value, dict):
        inner = value.get("bytes")
        return _strength(inner, there) if inner is not None else _strength(value.get("path"), there)
    if isinstance(value, bytes):
        return 3 if is_picture(value) else 0
    if not isinstance(value, str) or not value.strip():
        return 0
    if is_remote(value):
        return 1
    if (data := from_base64(value)) is not None and is_picture(data):
        return 3
    return 2 if len(value) < 4096 and "\0" not in value and there(value) else 0


def is_picture(data: bytes) -> bool:
    """Whether bytes begin as a picture that can be read."""
    try:
        Image.open(io.BytesIO(data)).close()
    except Exception:  # PIL's plugins raise whatever they stumble on
        return False
    return True


def first_of(value: Any) -> Any:
    """Of a list the first that is there; anything else as it is."""
    return next((v for v in value if v is not None), None) if isinstance(value, (list, tuple)) else value


def from_base64(value: str) -> bytes | None:
    """The bytes of a text in base64, with or without `data:image/png;base64,` before it; None for any other text."""
    text = value.partition("base64,")[2] if value.startswith("data:") else value
    if len(text) < 64 or not (text[:64].replace("\n", "").replace("\r", "").isascii()):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def path_in(folder: Path) -> Callable[[str], bool]:
    """Whether a path of a table that lies in `folder` leads to a file."""

    def there(path: str) -> bool:
        try:
            return (folder / path).is_file()
        except OSError:  # longer than a name can be
            return False

    return there


def caption_columns(columns: list[str], reading: Reading, where: str) -> dict[str, str]:
    """Caption column of the shards -> column of the table. ConfigError where none can be told.

    Tables of one source may differ, so of several named columns only one has to be there.
    """
    if reading.captions:
        found = {name: name for name in reading.captions if name in columns}
        if not found and not reading.uncaptioned:
            raise ConfigError(f"{where} has no column {_list(list(reading.captions))}; it has {_list(columns)}")
        return found
    for name in CAPTION_NAMES:
        for column in columns:
            if column.lower() == name:
                return {"caption": column}
    if reading.uncaptioned:
        return {}
    raise ConfigError(
        f"{where}: which column holds the caption? Say so with --caption: {_list(columns)} "
        "(or keep the pictures without one with --uncaptioned)"
    )


def other_captions(columns: list[str], taken: dict[str, str], reading: Reading) -> list[str]:
    """Columns that are called as captions are and that were not asked for."""
    if reading.captions:
        return []
    return [c for name in CAPTION_NAMES for c in columns if c.lower() == name and c not in taken.values()]


def json_captions(text: str, reading: Reading) -> dict[str, list[str]] | None:
    """The captions in a JSON object that lies beside a picture; None where it holds none. Raises TextError."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    if reading.captions:
        found = {name: row[name] for name in reading.captions if name in row}
    else:
        named = [row[name] for name in CAPTION_NAMES if name in row]
        found = {"caption": named[0]} if named else {}
    captions = {name: texts for name, value in found.items() if (texts := captions_in(value, reading.lines))}
    return captions or None


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"
