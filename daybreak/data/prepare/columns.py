"""Which column holds the picture and which the caption, in tables that others have made."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from daybreak.config import ConfigError
from daybreak.data.prepare.settings import PrepareSettings

IMAGE_NAMES = (
    *("file_name", "image", "image_path", "path", "file", "filename", "filepath", "file_path"),
    *("url", "image_url", "img", "img_path", "jpg", "png", "webp"),
)
CAPTION_NAMES = ("caption", "text", "captions", "prompt", "description", "txt", "long_caption", "alt", "title")


def image_column(columns: list[str], settings: PrepareSettings, where: str) -> str:
    """The column with pictures, paths or addresses; ConfigError, with what there is, where none can be told."""
    if settings.image_column is not None:
        if settings.image_column in columns:
            return settings.image_column
        raise ConfigError(f"{where} has no column {settings.image_column}; --image-column may be {_list(columns)}")
    for name in IMAGE_NAMES:
        for column in columns:
            if column.lower() == name:
                return column
    raise ConfigError(
        f"{where}: which column holds the picture or its path? Say so with --image-column: {_list(columns)}"
    )


def arrow_image_column(schema: pa.Schema, settings: PrepareSettings, where: str) -> str:
    """As `image_column`, preferring columns that hold pictures by their type."""
    if settings.image_column is None:
        for field in schema:
            kind = field.type
            holds_bytes = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            if holds_bytes or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return str(field.name)
    return image_column(schema.names, settings, where)


def caption_columns(columns: list[str], settings: PrepareSettings, where: str) -> dict[str, str]:
    """Caption column of the shards -> column of the table. ConfigError where none can be told.

    Tables of one source may differ, so of several named columns only one has to be there.
    """
    if settings.captions:
        found = {name: name for name in settings.captions if name in columns}
        if not found and not settings.uncaptioned:
            raise ConfigError(f"{where} has no column {_list(list(settings.captions))}; it has {_list(columns)}")
        return found
    for name in CAPTION_NAMES:
        for column in columns:
            if column.lower() == name:
                return {"caption": column}
    if settings.uncaptioned:
        return {}
    raise ConfigError(
        f"{where}: which column holds the caption? Say so with --caption: {_list(columns)} "
        "(or keep the pictures without one with --uncaptioned)"
    )


def caption_text(value: Any) -> str:
    """A caption as it stands in a table, as text: of a list the first that is not empty; anything else is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, (list, tuple)):
        value = next((v for v in value if isinstance(v, str) and v.strip()), "")
    return value.strip() if isinstance(value, str) else ""


def json_captions(text: bytes, settings: PrepareSettings) -> dict[str, str]:
    """The captions in a JSON object that lies beside a picture; none where it is no object."""
    try:
        row = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(row, dict):
        return {}
    names = settings.captions or {"caption": 1.0}
    if settings.captions:
        return {name: caption_text(row.get(name)) for name in names if name in row}
    found = next((row[name] for name in CAPTION_NAMES if name in row), None)
    return {"caption": caption_text(found)} if found is not None else {}


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"
