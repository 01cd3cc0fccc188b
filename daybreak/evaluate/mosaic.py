"""Contact sheets of pictures on disk, of any size and shape, with a line or two below each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from daybreak.evaluate.grid import BAD, FONT_PX, GAP_PX, GOOD, INK, LINE_PX, PAPER
from daybreak.evaluate.pictures import read_picture

TILE_PX = 200
LINES = 4
"""Of text below a picture; the rest is cut."""


@dataclass(frozen=True)
class Tile:
    """A picture and what to say of it; `good` colours the text green or red."""

    path: Path
    text: str = ""
    good: bool | None = None


def save_mosaic(tiles: Sequence[Tile], path: Path, columns: int = 6, side: int = TILE_PX) -> None:
    """Writes a PNG of pictures scaled into squares of `side` px. Unreadable ones stay grey and say so."""
    font = ImageFont.load_default(FONT_PX)
    texts = [_wrapped(t.text, side) for t in tiles]
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    text_px = LINE_PX * max((len(t) for t in texts), default=0) + 4
    sheet = Image.new("RGB", (columns * (side + GAP_PX) + GAP_PX, rows * (side + text_px + GAP_PX) + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (tile, lines) in enumerate(zip(tiles, texts, strict=True)):
        x, y = GAP_PX + i % columns * (side + GAP_PX), GAP_PX + i // columns * (side + text_px + GAP_PX)
        try:
            picture = read_picture(tile.path)
        except ValueError:
            picture, lines = Image.new("RGB", (side, side), (200, 200, 200)), ["unreadable", *lines][:LINES]
        # Small pictures keep their pixels; large ones are smoothed.
        grow = picture.width <= side // 2 and picture.height <= side // 2
        shown = ImageOps.contain(picture, (side, side), Image.Resampling.NEAREST if grow else Image.Resampling.LANCZOS)
        sheet.paste(shown, (x + (side - shown.width) // 2, y + (side - shown.height) // 2))
        ink = INK if tile.good is None else GOOD if tile.good else BAD
        for k, line in enumerate(lines):
            draw.text((x, y + side + 3 + k * LINE_PX), line, fill=ink, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _wrapped(text: str, side: int) -> list[str]:
    lines = textwrap.wrap(text, max(8, int(side / (FONT_PX * 0.56))))
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], lines[LINES - 1] + " …"]
    return lines
