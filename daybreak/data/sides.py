"""Which side the pictures of a source are large enough for, told by the headers of some of them. Needs no torch."""

from __future__ import annotations

import io
from itertools import islice
from typing import BinaryIO

from PIL import Image

from daybreak.data.places import is_remote
from daybreak.data.reading.row import RawRow
from daybreak.data.reading.rows import source_rows
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import Plan

LOOKED_AT = 200
MOST_SMALLER = 0.1
"""So many of the pictures may be smaller than the side that is chosen."""
SIDES = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Those that are chosen where they divide."""


def shorter_sides(plan: Plan, reading: Reading) -> list[int]:
    """Of the first LOOKED_AT readable pictures of a source, px, ascending."""
    return sorted(side for row in islice(source_rows(plan, reading), LOOKED_AT) if (side := _shorter_side(row)))


def fitting_side(sides: list[int], multiple: int, most: int) -> int:
    """The largest of SIDES, a multiple of `multiple` and at most `most`, that nine of ten pictures have.

    sides: of the pictures, ascending; `most` where there are none. Where all pictures are smaller: what they have.
    """
    if not sides:
        return most
    there = sides[int(MOST_SMALLER * len(sides))]
    fitting = [s for s in SIDES if s <= min(there, most) and s % multiple == 0]
    return fitting[-1] if fitting else max(multiple, min(there, most) // multiple * multiple)


def _shorter_side(row: RawRow) -> int | None:
    """px; None for what is no readable picture."""
    try:
        local = row.place if not row.data and row.place is not None and not is_remote(row.place) else None
        file: str | BinaryIO = io.BytesIO(row.read()) if local is None else local
        with Image.open(file) as image:
            return min(image.size)
    except (OSError, ValueError, SyntaxError):
        return None
