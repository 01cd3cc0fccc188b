"""What a PNG of ours says of how it was generated."""

from __future__ import annotations

import json
from typing import Any

from PIL.PngImagePlugin import PngInfo

from daybreak import __version__


def png_info(parameters: dict[str, Any] | None) -> PngInfo:
    """The text chunks of a picture: `parameters` in the one of that name, as JSON, and what wrote it; None: none."""
    info = PngInfo()
    if parameters is not None:
        info.add_itxt("parameters", json.dumps(parameters, ensure_ascii=False))
        info.add_text("Software", f"daybreak {__version__}")
    return info
