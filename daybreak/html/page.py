"""Reports as pages that need nothing beside themselves: Jinja2 fills the templates of this room."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from daybreak import __version__


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Fills a template with `values`, whose text is escaped, and writes the page. Returns `path`.

    Every page has a `title`, and `about`: the line below it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    page = _templates.get_template(template).render(values, version=__version__)
    path.write_text(page, encoding="utf-8")
    return path


def data_uri(picture: bytes) -> str:
    """A PNG or a JPEG as an address that holds the whole picture."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["data_uri"] = data_uri
