"""From a picture file to upright sRGB pixels: the one place that decodes what users have."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
)
MAX_PIXELS = 100_000_000
"""Larger pictures are refused unread: a small file can unfold to fill the memory."""

Image.MAX_IMAGE_PIXELS = None  # ours, above, is checked for every picture, and says so in a sentence

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(ValueError):
    """The file is no picture that can be used; the message says why, in words that do not depend on the machine."""


@dataclass(frozen=True)
class Decoded:
    """An upright sRGB picture.

    image: mode RGB. width, height: of the upright original, px; `image` is smaller where JPEG was read at a fraction.
    notes: what was done to it beyond decoding, in words. plain: nothing was, and the file holds no metadata.
    """

    image: Image.Image
    width: int
    height: int
    notes: tuple[str, ...]
    plain: bool


def decode(file: bytes | Path, background: tuple[int, int, int], least: tuple[int, int] | None = None) -> Decoded:
    """The picture in `file`: EXIF orientation applied, colour profile converted to sRGB, transparency on `background`.

    An animation gives its first frame. With `least` (width, height), JPEG may be decoded at 1/2, 1/4 or 1/8, never
    below that size. Raises PictureError where the file is no readable picture or is too large.
    """
    if isinstance(file, Path):
        try:
            file = file.read_bytes()
        except OSError as e:
            raise PictureError("no such file" if isinstance(e, FileNotFoundError) else str(e.strerror)) from None
    if not file:
        raise PictureError("the file is empty")
    try:
        with Image.open(io.BytesIO(file)) as image:
            return _decode(image, background, least)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(_unidentified(file)) from None
    except Exception as e:  # PIL's decoders raise whatever they stumble on
        raise PictureError(f"not a readable picture: {' '.join(str(e).split()) or type(e).__name__}") from None


def _decode(image: Image.Image, background: tuple[int, int, int], least: tuple[int, int] | None) -> Decoded:
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"{image.width}x{image.height} px is more than {MAX_PIXELS // 10**6} megapixels")
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"animation: the first of {frames} frames is used")
    turn, has_exif = _orientation(image, notes)
    width, height = image.size
    if turn is not None and turn >= Image.Transpose.ROTATE_90 and turn != Image.Transpose.ROTATE_180:
        width, height = height, width
        least = (least[1], least[0]) if least else None
    if least:
        image.draft(None, least)
    profile = image.info.get("icc_profile")
    mode = image.mode
    image.load()
    rgb = _to_rgb(image, background, profile, notes)
    if turn is not None:
        rgb = rgb.transpose(turn)
    plain = mode == "RGB" and not notes and not has_exif and not profile
    return Decoded(rgb, width, height, tuple(notes), plain)


def _orientation(image: Image.Image, notes: list[str]) -> tuple[Image.Transpose | None, bool]:
    """How to turn the picture upright, and whether it carries EXIF at all."""
    try:
        exif = image.getexif()
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block is no reason to lose the picture
        notes.append("EXIF is damaged and ignored")
        return None, True
    if value not in range(1, 9):
        notes.append(f"EXIF orientation {value} does not exist and is ignored")
        return None, True
    if value != 1:
        notes.append(f"turned upright (EXIF orientation {value})")
    return _UPRIGHT.get(value), bool(exif) or "exif" in image.info


def _to_rgb(
    image: Image.Image, background: tuple[int, int, int], profile: bytes | None, notes: list[str]
) -> Image.Image:
    """Any mode -> RGB in sRGB, transparency laid on `background`."""
    if image.mode == "CMYK":
        notes.append("CMYK converted to sRGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if profile:
            colours = _to_srgb(rgba.convert("RGB"), profile, notes)
            colours.putalpha(rgba.getchannel("A"))
            rgba = colours
        ground = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16 bit grey: PIL would clip it to white.
        return Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8)).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L", "P"):
        return _to_srgb(image.convert("RGB") if image.mode == "P" else image, profile, notes)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """A picture with a colour profile -> RGB in sRGB; without it, and with a note, where the profile is unusable."""
    try:
        name, transform = _transform(profile, image.mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("its colour profile is unusable; taken as sRGB")
        return image.convert("RGB")
    if transform is None:
        return image.convert("RGB")
    notes.append(f"colour profile {name!r} converted to sRGB")
    result = ImageCms.applyTransform(image, transform)
    assert result is not None
    return result


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """A profile's name and its transform to sRGB; None where it is sRGB already."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    name = (ImageCms.getProfileDescription(source) or "unnamed").strip()
    if mode == "RGB" and name.lower().replace(" ", "").startswith("srgb"):
        return name, None
    return name, ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _unidentified(file: bytes) -> str:
    if file[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim", b"ftyphevc"):
        return "cannot identify HEIC pictures; pip install pillow-heif, and they are read"
    return "cannot identify the file as a picture"


with suppress(ImportError):  # phone photos, where the package is installed
    import_module("pillow_heif").register_heif_opener()


def open_square(path: Path, resolution: int, background: tuple[int, int, int]) -> np.ndarray:
    """A picture as training on squares sees it: [resolution, resolution, 3] uint8, sRGB.

    The shorter side is scaled to `resolution` with antialiasing and the middle square cut out. Raises PictureError.
    """
    image = decode(path, background, least=(resolution, resolution)).image
    return np.asarray(ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS))
