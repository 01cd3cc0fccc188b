"""Pictures with more than 8 bits a channel, brought to 8 by the range that the file states; never black in silence."""

from __future__ import annotations

import struct
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

    Grey integers are scaled by the range that the file states, else by that of their bits; floats by the stated range,
    else by 0..1 where they lie in it. What states no range and would come out all but black is refused.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;"):
        grey = _grey(image, file, notes)
        return Image.fromarray(np.rint(grey * 255).astype(np.uint8))
    if deep_colours:
        image.load()
        colours = image.getextrema()[: 3 if image.mode.startswith("RGB") else 1]
        brightest = max(high for _, high in colours)  # type: ignore[misc]
        if 0 < brightest < 256 * DARK:
            raise DepthError(
                f"a picture of 16 bits a channel whose brightest value is below {brightest + 1} of 256: its values "
                "seem to have 12 bits or fewer; scale them to the full range"
            )
    return None


def _grey(image: Image.Image, file: bytes, notes: list[str]) -> np.ndarray:
    """[H, W] float in 0..1."""
    mode = image.mode
    low, high = _stated(image, file)
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DepthError("a floating-point picture with values that are no numbers (NaN or infinite)")
    least, most = float(values.min()), float(values.max())
    if high is None and mode == "F":
        if least < 0 or most > 1:
            raise DepthError(
                f"a floating-point picture from {least:g} to {most:g} that does not state its range; save it as PNG"
            )
        high = 1.0
    elif high is None:
        bits = _bits(tags) or 16
        if bits > 16:
            raise DepthError(
                f"a {bits}-bit picture from {least:g} to {most:g} that does not state its range; save it as PNG"
            )
        high = 2.0**bits - 1
        if bits == 16 and least >= 0 and 0 < most < DARK * high:
            raise DepthError(
                f"a 16-bit picture whose brightest value is {most:.0f} of 65535: its values seem to have 12 bits or "
                "fewer, and it does not say so; scale them to the full range"
            )
    else:
        notes.append(f"brightness from {low:g} to {high:g}, as it states, scaled to 8 bits")
    if least < low or high <= low:
        raise DepthError(
            f"a picture with values from {least:g} to {most:g}, outside of its range from {low:g} to {high:g}"
        )
    scaled = ((values - low) / (high - low)).clip(0, 1)
    return 1 - scaled if tags.get(_WHITE_IS_ZERO) == 0 else scaled


def _bits(tags: object) -> int | None:
    value = tags.get(_BITS) if hasattr(tags, "get") else None
    value = value[0] if isinstance(value, tuple) and value else value
    return int(value) if value else None


def _stated(image: Image.Image, file: bytes) -> tuple[float, float | None]:
    """(darkest, brightest) as the file states them: TIFF's tags, or PNG's significant bits where values fit in them."""
    tags = getattr(image, "tag_v2", {})
    found: list[Any] = []
    for names in ((_OTHER_LEAST, _LEAST), (_OTHER_MOST, _MOST)):
        value = next((tags[n] for n in names if n in tags), None)
        found.append(value[0] if isinstance(value, tuple) and value else value)
    if found[1] is not None:
        return float(found[0] or 0), float(found[1])
    if image.format == "PNG" and (bits := _significant_bits(file)) is not None and bits < 16:
        brightest = float(np.asarray(image).max())
        if brightest < 2**bits:
            return 0.0, 2.0**bits - 1
    return 0.0, None


def _significant_bits(png: bytes) -> int | None:
    """What the chunk sBIT says of the first channel. Its values fill the range by PNG's rule, and not in all files."""
    at = 8
    while at + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"sBIT":
            return png[at + 8]
        if kind == b"IDAT":
            return None
        at += 12 + length
    return None
