"""The models in the box, by name, beside those in folders."""

from __future__ import annotations

from pathlib import Path

BOX = Path(__file__).parent
NAMES = ("scenes",)


def model_folder(text: str) -> Path:
    """The folder that `text` names; the box's where it is one of NAMES and no folder here has that name."""
    path = Path(text)
    return BOX / text if text in NAMES and not path.exists() else path
