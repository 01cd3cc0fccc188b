"""Pictures with more than 8 bits a channel, brought to 8 by the range that the file states; never black in silence."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
from PIL import Image

_BITS, _WHITE_IS_ZERO, _LEAST, _MOST, _OTHER_LEAST, _OTHER_MOST = 258, 262, 280, 281, 340, 341
"""TIFF tags: BitsPerSample, PhotometricInterpretation, (S)Min- and (S)MaxSampleValue."""
DARK = 1 / 16
"""Of a 16-bit range: a picture that stays below and says nothing of its range holds 12 bits or fewer."""


class DepthError(ValueError):
    """The picture's range cannot be told; the message says why."""


def has_16_bit_colours(image: Image.Image) -> bool:
    """Whether a picture that was opened and not loaded has 16 bits a channel, of which Pillow will keep the upper 8
    (findings/rgb16_upper_byte.sh)."""
    return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def to_8_bits(image: Image.Image, file: bytes, deep_colours: bool, notes: list[str]) -> Image.Image | None:
    """A deep picture as one of 8 bits, or None where it has 8 bits already (it may be loaded then). Raises DepthError.

    Integers are scaled by the range that the file states, else by that of their bits; floats by the stated range, else
    by 0..1 where they lie in it. What states no range and would come out all but black is refused.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        grey = _grey(image, file, notes)
        return Image.fromarray(np.rint(grey * 255).astype(np.uint8))
    if deep_colours and image.mode in ("RGB", "RGBA", "RGBa"):
        return _colours(image, file, notes)
    return None


def _colours(image: Image.Image, file: bytes, notes: list[str]) -> Image.Image | None:
    """A picture of 16 bits a channel by its stated range; None where that is all of them, as Pillow takes it."""
    image.load()
    upper = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]
    bits = _significant_bits(file) if image.format == "PNG" else None
    states = _MOST in _tags(image) or _OTHER_MOST in _tags(image) or (bits is not None and upper << 8 < 2**bits)
    if upper >= 256 * DARK and not states:
        return None
    values = _sixteen_bits(file)
    colours, alpha = values[..., :3].astype(np.float32), values[..., 3:]
    low, high = _stated(image, file, colours)
    if high is None and 0 < colours.max() < DARK * 65535:
        raise _too_dark(colours.max())
    if high is None or (low, high) == (0, 65535):
        return None
    notes.append(_scaling(low, high))
    opaque = high if alpha.size and alpha.max() <= high else 65535
    scaled = np.concatenate([_scaled(colours, low, high), (alpha / opaque).clip(0, 1)], axis=2)
    return Image.fromarray(np.rint(scaled * 255).astype(np.uint8), image.mode)


def _sixteen_bits(file: bytes) -> np.ndarray:
    """[H, W, 3 or 4] uint16 of a picture of 16 bits a channel, as a file has them.

    Pillow reads one byte of each two: the lower one too, where it is told that the bytes stand the other way round.
    """
    with Image.open(io.BytesIO(file)) as image:
        raw = _raw_mode(image)
        if raw == "LA;16B":  # four bytes a pixel, which Pillow can read as four channels
            pairs = _read_as(image, "RGBA").astype(np.uint16)
            grey, alpha = pairs[..., 0] << 8 | pairs[..., 1], pairs[..., 2] << 8 | pairs[..., 3]
            return np.stack([grey, grey, grey, alpha], axis=2)
        upper = np.asarray(image).astype(np.uint16)
    with Image.open(io.BytesIO(file)) as image:
        big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
        return upper << 8 | _read_as(image, raw[:-1] + ("L" if big else "B"))


def _raw_mode(image: Image.Image) -> str:
    """In which order the bytes of a picture that was opened and not loaded stand, in Pillow's words."""
    args = image.tile[0].args  # type: ignore[attr-defined]
    return str(args if isinstance(args, str) else args[0])


def _read_as(image: Image.Image, raw: str) -> np.ndarray:
    """The pixels of a picture that was opened and not loaded, read as if its bytes stood in another order."""
    file: Any = image  # a picture that was opened from a file has tiles
    file.tile = [t._replace(args=raw if isinstance(t.args, str) else (raw, *t.args[1:])) for t in file.tile]
    return np.asarray(file)


def _too_dark(most: float) -> DepthError:
    return DepthError(
        f"a 16-bit picture whose brightest value is {most:.0f} of 65535: its values seem to have 12 bits or fewer, and "
        "it does not say so; scale them to the full range"
    )


def _scaling(low: float, high: float) -> str:
    return f"brightness from {low:g} to {high:g}, as it states, scaled to 8 bits"


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from `low` to `high` -> 0..1. DepthError where they lie below."""
    least, most = float(values.min()), float(values.max())
    if least < low or high <= low:
        raise DepthError(
            f"a picture with values from {least:g} to {most:g}, outside of its range from {low:g} to {high:g}"
        )
    return ((values - low) / (high - low)).clip(0, 1)


def _tags(image: Image.Image) -> Any:
    """A TIFF's tags."""
    return getattr(image, "tag_v2", {})


def _grey(image: Image.Image, file: bytes, notes: list[str]) -> np.ndarray:
    """[H, W] float in 0..1."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DepthError("a floating-point picture with values that are no numbers (NaN or infinite)")
    low, high = _stated(image, file, values)
    least, most = float(values.min()), float(values.max())
    if high is None and image.mode == "F":
        if least < 0 or most > 1:
            raise DepthError(
                f"a floating-point picture from {least:g} to {most:g} that does not state its range; save it as PNG"
            )
        high = 1.0
    elif high is None:
        bits = _bits(_tags(image)) or 16
        if bits > 16:
            raise DepthError(
                f"a {bits}-bit picture from {least:g} to {most:g} that does not state its range; save it as PNG"
            )
        high = 2.0**bits - 1
        if bits == 16 and least >= 0 and 0 < most < DARK * high:
            raise _too_dark(most)
    else:
        notes.append(_scaling(low, high))
    scaled = _scaled(values, low, high)
    return 1 - scaled if _tags(image).get(_WHITE_IS_ZERO) == 0 else scaled


def _bits(tags: object) -> int | None:
    value = tags.get(_BITS) if hasattr(tags, "get") else None
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if value else None


def _stated(image: Image.Image, file: bytes, values: np.ndarray) -> tuple[float, float | None]:
    """(darkest, brightest) as the file states them: TIFF's tags, or PNG's significant bits where `values` fit in them.

    By PNG's rule the significant bits are the upper ones: values that have nothing below them are dark, and as they
    should be.
    """
    tags = _tags(image)
    least, most = (
        next((tags[n] for n in names if n in tags), None) for names in ((_OTHER_LEAST, _LEAST), (_OTHER_MOST, _MOST))
    )
    if most is not None:
        return float(np.min(least or 0)), float(np.max(most))
    bits = _significant_bits(file) if image.format == "PNG" else None
    if bits is not None and bits < 16 and 0 < values.max() < 2**bits:
        return 0.0, 2.0**bits - 1 if (values % 2 ** (16 - bits)).any() else 65535.0
    return 0.0, None


def _significant_bits(png: bytes) -> int | None:
    """What the chunk sBIT says of the first channel; the other channels of a colour picture rarely differ."""
    at = 8
    while at + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"sBIT":
            return png[at + 8]
        if kind == b"IDAT":
            return None
        at += 12 + length
    return None
