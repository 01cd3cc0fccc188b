"""Reports as pages that need nothing beside themselves: Jinja2 fills the templates of this room."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from daybreak import __version__
from daybreak.files import write_whole
from daybreak.finite import finite


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fills a template with `values`, whose text is escaped, and writes the page. Returns `path`.

    Every page has a `title`, and `about`: the line below it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, fill(template, **values))
    return path


def data_uri(picture: bytes) -> str:
    """A PNG or a JPEG as an address that holds the whole picture."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def fill(template: str, **values: Any) -> str:
    """A template filled with `values`, as text."""
    return _templates.get_template(template).render(values, version=__version__)


def asset(name: str) -> Markup:
    """A style or a script of this room, FOLDER/NAME, to stand in a page as it is."""
    return Markup((ROOM / name).read_text(encoding="utf-8"))


def as_script(value: Any) -> Markup:
    """A plain value as JSON inside a script element, out of which no text of it can break."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


ROOM = Path(__file__).parent
_templates = Environment(
    loader=FileSystemLoader(ROOM / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"data_uri": data_uri, "as_script": as_script, "asset": asset}
