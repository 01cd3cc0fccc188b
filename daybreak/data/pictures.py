"""From a picture file to upright sRGB pixels: the one place that decodes what users have."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError, features

from daybreak.data.depth import DepthError, has_16_bit_colours, to_8_bits

with suppress(ImportError):  # phone photos, where the package is installed
    import_module("pillow_heif").register_heif_opener()
try:
    import_module("pillow_jxl")
    _JPEG_XL: tuple[str, ...] = (".jxl",)
except ImportError:
    _JPEG_XL = ()

PICTURE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".jp2", ".j2k", ".j2c", ".jpx", ".jpf") if features.check("jpg_2000") else ()),
    *_JPEG_XL,
)
"""What is taken for a picture by its name; Pillow then decides by the content."""
MAX_PIXELS = 100_000_000
"""Larger pictures are refused unread: a small file can unfold to fill the memory."""

DRAFT = 2
"""JPEG is decoded down to no less than this many times the wanted side, so that the filter decides what is seen:
decoded to just above it, the same pixels as .jpg and .png come out 4 to 5 of 255 apart; so about 1."""

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
_QUARTERS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


class PictureError(ValueError):
    """The file is no picture that can be used; the message says why, in words that do not depend on the machine."""


@dataclass(frozen=True)
class Decoded:
    """An upright sRGB picture.

    image: mode RGB. width, height: of the upright original, px; `image` is smaller where JPEG was read at a fraction.
    notes: what was done to it beyond decoding, in words. plain: nothing was, and the file holds no metadata. alpha: its
    opacity, mode L, where it was asked for and there is any.
    """

    image: Image.Image
    width: int
    height: int
    notes: tuple[str, ...]
    plain: bool
    alpha: Image.Image | None = None


def decode(
    file: bytes | Path, background: tuple[int, int, int], least: tuple[int, int] | None = None, alpha: bool = False
) -> Decoded:
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
        with Image.open(io.BytesIO(file), formats=_likely(file)) as image:
            return _decode(image, file, background, least, alpha)
    except PictureError:
        raise
    except DepthError as e:
        raise PictureError(str(e)) from None
    except UnidentifiedImageError:
        raise PictureError(_unidentified(file)) from None
    except Exception as e:  # PIL's decoders raise whatever they stumble on
        raise PictureError(f"not a readable picture: {' '.join(str(e).split()) or type(e).__name__}") from None


def _likely(file: bytes) -> tuple[str, ...] | None:
    """The format that a file's first bytes tell: Pillow tries all of its own one after another. None: let it try."""
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return ("WEBP",)
    if file[:8] == b"\x89PNG\r\n\x1a\n":
        return ("PNG",)
    return None


def _decode(
    image: Image.Image, file: bytes, background: tuple[int, int, int], least: tuple[int, int] | None, alpha: bool
) -> Decoded:
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"{image.width}x{image.height} px is more than {MAX_PIXELS // 10**6} megapixels")
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"animation: the first of {frames} frames is used")
    deep_colours = has_16_bit_colours(image)
    turn, has_exif = _orientation(image, notes)
    width, height = image.size
    if turn in _QUARTERS and image.format != "TIFF":  # whose size Pillow gives upright
        width, height = height, width
        least = (least[1], least[0]) if least else None
    if least:
        image.draft(None, least)
    profile = image.info.get("icc_profile")
    mode = image.mode
    deep = to_8_bits(image, file, deep_colours, notes)
    if deep is None:
        image.load()
    source = image if deep is None else deep
    opacity = source.convert("RGBA").getchannel("A") if alpha and _is_transparent(source) else None
    rgb = _to_rgb(source, background, profile, notes)
    # Pillow turns TIFF while loading, and then takes the tag away.
    if turn is not None and not (image.format == "TIFF" and image.getexif().get(_ORIENTATION, 1) == 1):
        rgb = rgb.transpose(turn)
        opacity = None if opacity is None else opacity.transpose(turn)
    plain = mode == "RGB" and not notes and not has_exif and not profile
    return Decoded(rgb, width, height, tuple(notes), plain, opacity)


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


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _to_rgb(
    image: Image.Image, background: tuple[int, int, int], profile: bytes | None, notes: list[str]
) -> Image.Image:
    """Any mode -> RGB in sRGB, transparency laid on `background`."""
    if image.mode == "CMYK":
        notes.append("CMYK converted to sRGB")
    if _is_transparent(image):
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        if profile:
            colours = _to_srgb(rgba.convert("RGB"), profile, notes)
            colours.putalpha(rgba.getchannel("A"))
            rgba = colours
        ground = Image.new("RGB", rgba.size, background)
        ground.paste(rgba, mask=rgba)  # in one pass
        return ground
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
    if file[:2] == b"\xff\x0a" or file[4:12] == b"JXL \r\n\x87\n":
        return "cannot identify JPEG XL pictures; pip install pillow-jxl-plugin, and they are read"
    if file[:4] in (b"II*\0", b"MM\0*"):
        return "cannot identify the file as a picture: a TIFF of a layout that Pillow does not read"
    return "cannot identify the file as a picture"


def open_square(file: bytes | Path, resolution: int, background: tuple[int, int, int]) -> np.ndarray:
    """A picture as training on squares sees it: [resolution, resolution, 3] uint8, sRGB.

    The shorter side is scaled to `resolution` with antialiasing and the middle square cut out. Raises PictureError.
    """
    image = decode(file, background, least=(DRAFT * resolution, DRAFT * resolution)).image
    return np.asarray(ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS))
