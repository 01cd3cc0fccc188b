"""Whether the data that a run goes on with are those it had before: a checksum of each picture and of its captions."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from daybreak.data.places import write_atomically

Check = tuple[int, int]
"""CRC-32 of a picture's file and of its captions."""


def picture_check(picture: bytes, captions: Iterable[str]) -> Check:
    """The check of a picture and all its captions."""
    return zlib.crc32(picture), captions_check(captions)


def captions_check(captions: Iterable[str], before: int = 0) -> int:
    """CRC-32 of captions in their order; `before`: that of those in front of them."""
    for text in captions:
        before = zlib.crc32(text.encode() + b"\0", before)
    return before


def as_checks(rows: Iterable[Check]) -> np.ndarray:
    """The checks of all pictures, [N, 2] uint32."""
    return np.array(list(rows), dtype=np.uint32).reshape(-1, 2)


def save_checks(file: Path, checks: np.ndarray) -> None:
    """Writes what `changes_since` compares with: 8 bytes a picture."""
    buffer = io.BytesIO()
    np.save(buffer, checks)
    write_atomically(str(file), buffer.getvalue())


def changes_since(file: Path, checks: np.ndarray) -> str | None:
    """What is other in `checks` than in `file`, in words; None where nothing is, or nothing can be read there.

    A picture is known by its bytes, so one that was renamed is the same.
    """
    try:
        before = np.load(file)
    except (OSError, ValueError, EOFError):
        return None  # of a run that an older daybreak began, or cut off
    if np.array_equal(before, checks):
        return None
    gone, new = _lost(before[:, 0], checks[:, 0]), _lost(checks[:, 0], before[:, 0])
    captions = _lost(_pairs(before), _pairs(checks)) - gone
    told = [(gone, "gone"), (new, "new"), (captions, "with other captions")]
    return ", ".join(f"{count} {what}" for count, what in told if count) or "the same ones in another order"


def _pairs(checks: np.ndarray) -> np.ndarray:
    return checks[:, 0].astype(np.uint64) << np.uint64(32) | checks[:, 1].astype(np.uint64)


def _lost(before: np.ndarray, now: np.ndarray) -> int:
    """How many of `before` are not in `now`; what is there twice counts twice."""
    values, place = np.unique(np.concatenate([before, now]), return_inverse=True)
    was, left = (np.bincount(p, minlength=len(values)) for p in np.split(place.reshape(-1), [len(before)]))
    return int(np.maximum(was - left, 0).sum())
