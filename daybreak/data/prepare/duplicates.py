"""Finds pictures that are there twice; the first of them in the order of the sources stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from daybreak.data.prepare.hashes import NEAR_BITS, NEAR_COLOUR, NEAR_FIELD

BANDS = NEAR_BITS + 1
"""Two 64-bit hashes that differ in at most NEAR_BITS bits are equal in at least one of this many bands of 16 bits."""


@dataclass(frozen=True)
class Duplicate:
    """Row `row` shows what row `of` shows; `exact`: it is the same file."""

    row: int
    of: int
    exact: bool


def find_duplicates(rows: Iterable[tuple[str, int, bytes]], near: bool) -> list[Duplicate]:
    """Duplicates among rows of (sha256, perceptual hash, colours), by their number; near ones too with `near`.

    A row is compared with the rows that stay, so a chain of small changes does not swallow its end.
    """
    first_of: dict[str, int] = {}
    bands: list[defaultdict[int, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    kept: dict[int, tuple[int, np.ndarray]] = {}
    found = []
    for number, (sha, phash, colours) in enumerate(rows):
        if sha in first_of:
            found.append(Duplicate(number, first_of[sha], exact=True))
            continue
        first_of[sha] = number
        if not near:
            continue
        thumb = np.frombuffer(colours, dtype=np.uint8)
        keys = [(phash >> (16 * b)) & 0xFFFF for b in range(BANDS)]
        candidates = sorted({c for band, key in zip(bands, keys, strict=True) for c in band.get(key, ())})
        same = next((c for c in candidates if _same(kept[c], phash, thumb)), None)
        if same is not None:
            first_of[sha] = same
            found.append(Duplicate(number, same, exact=False))
            continue
        kept[number] = (phash, thumb)
        for band, key in zip(bands, keys, strict=True):
            band[key].append(number)
    return found


def _same(other: tuple[int, np.ndarray], phash: int, thumb: np.ndarray) -> bool:
    if (other[0] ^ phash).bit_count() > NEAR_BITS:
        return False
    difference = np.abs(other[1].astype(np.int16) - thumb)
    return bool(difference.mean() <= NEAR_COLOUR and difference.max() <= NEAR_FIELD)
