"""How masks that lie beside their pictures are called."""

from __future__ import annotations

from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.data.places import exists

ENDINGS = ("-masklabel", "-mask")
"""Of their names: a.png goes with a-masklabel.png (OneTrainer's name) or a-mask.png."""


def picture_of(path: str) -> str:
    """A mask's path without its suffix and ending, as its picture's is without suffix."""
    stem = path.rpartition(".")[0]
    return next((stem.removesuffix(e) for e in ENDINGS if stem.endswith(e)), stem)


def masks_another(place: str) -> bool:
    """Whether a picture is called as the mask of another one that lies beside it."""
    picture = picture_of(place)
    return picture != place.rpartition(".")[0] and any(exists(picture + suffix) for suffix in PICTURE_SUFFIXES)
