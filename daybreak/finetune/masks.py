"""Masks: which parts of a picture are learnt, and how much the rest counts. White counts fully, black least."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.data.captioned import Listed, UnfitError
from daybreak.data.mask_names import ENDINGS, masks_another, picture_of
from daybreak.data.pictures import PICTURE_SUFFIXES, Decoded, PictureError, decode
from daybreak.data.places import exists
from daybreak.data.reading.listing import folded

ALPHA, BESIDE = "alpha", "beside"


class Masks:
    """Where masks come from: the pictures' transparency (ALPHA), files beside them (BESIDE), or another folder.

    In a folder a mask is called as its picture is below the data's folder, with or without one of ENDINGS, or at least
    as the picture without its folder. ConfigError where there is no such folder.
    """

    def __init__(self, told: str) -> None:
        self.told = told
        self.found = 0
        self._files: dict[str, Path] = {}
        self._used: set[Path] = set()
        if told in (ALPHA, BESIDE):
            return
        folder = Path(told).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"--masks {told} is neither alpha nor beside, nor a folder")
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES):
            stem = picture_of(path.relative_to(folder).as_posix())
            self._files.setdefault(folded(stem), path)
            self._files.setdefault(folded(stem.rpartition("/")[2]), path)

    def of(self, listed: Listed, picture: Decoded) -> Image.Image | None:
        """The mask of a picture, mode L, of its shape; None where it has none. Raises UnfitError where it is no use."""
        if self.told == ALPHA:
            self.found += picture.alpha is not None
            return picture.alpha
        if (file := self._file(listed)) is None:
            return None
        self.found += 1
        try:
            mask = decode(file, (0, 0, 0)).image.convert("L")
        except PictureError as e:
            raise UnfitError("faulty mask", f"its mask {file.name}: {e}") from None
        width, height = picture.width, picture.height
        if abs(mask.width * height - mask.height * width) > max(width, height):
            is_size = f"{mask.width}x{mask.height} px, and the picture {width}x{height}"
            raise UnfitError("faulty mask", f"its mask {file.name} is {is_size}: they need one shape")
        return mask

    def _file(self, listed: Listed) -> Path | None:
        if self.told == BESIDE:
            stem = (listed.row.place or "").rpartition(".")[0]
            return next((Path(f"{stem}{e}.png") for e in ENDINGS if stem and exists(f"{stem}{e}.png")), None)
        stem = listed.row.key.rpartition(".")[0]
        for name in (stem, stem.rpartition("/")[2]):
            if (path := self._files.get(folded(name))) is not None:
                self._used.add(path)
                return path
        return None

    def unused(self) -> list[Skipped]:
        """The masks of a folder that belong to no picture. ConfigError where none of all masks belongs to any."""
        if not self.found:
            what = {
                ALPHA: "no picture is transparent anywhere",
                BESIDE: "no picture NAME.* has NAME-mask.png beside it",
            }
            why = f"none of its {len(set(self._files.values()))} pictures is called as a training picture is"
            raise ConfigError(f"--masks {self.told}: {what.get(self.told, why)}")
        left = sorted(set(self._files.values()) - self._used)
        return [Skipped(str(path), "a mask of no picture") for path in left]


def is_mask(listed: Listed) -> bool:
    """Whether a picture is the mask of another one that lies beside it: it is called so and has no caption."""
    return listed.row.place is not None and not listed.choices and masks_another(listed.row.place)
