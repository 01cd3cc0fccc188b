"""Picture grids with their prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from daybreak.data.batch import to_uint8
from daybreak.evaluate.png_info import png_info

CELL_PX = 160
"""Least width of a picture in a grid; smaller ones are scaled up by a whole factor, without smoothing."""
GAP_PX, LINE_PX, FONT_PX = 10, 15, 12
PAPER, INK, GOOD, BAD = (255, 255, 255), (40, 40, 40), (30, 130, 60), (190, 40, 40)


def save_grid(
    pictures: Tensor | Sequence[Tensor], prompts: Sequence[str], path: Path, followed: Sequence[bool] | None = None,
    columns: int = 6, parameters: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Writes pictures [B, 3, H, W], or B of one size [3, H, W], in [-1, 1] as a PNG, each above its prompt.

    `followed` colours the prompts: green where the picture satisfies it, red where it does not. `parameters` go into
    the file (png_info.py).
    """
    scale = max(1, -(-CELL_PX // pictures[0].shape[2]))
    height, width = pictures[0].shape[1] * scale, pictures[0].shape[2] * scale
    font = ImageFont.load_default(FONT_PX)
    lines = [textwrap.wrap(p, max(8, int(width / (FONT_PX * 0.5)))) or [""] for p in prompts]
    text_height = LINE_PX * max(len(t) for t in lines) + 4
    columns = min(columns, len(prompts))
    rows = -(-len(prompts) // columns)
    cell_w, cell_h = width + GAP_PX, height + text_height + GAP_PX
    sheet = Image.new("RGB", (columns * cell_w + GAP_PX, rows * cell_h + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = GAP_PX + (i % columns) * cell_w, GAP_PX + (i // columns) * cell_h
        pixels = np.ascontiguousarray(to_uint8(picture[None])[0])
        tile = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (x, y))
        ink = INK if followed is None else GOOD if followed[i] else BAD
        for k, line in enumerate(lines[i]):
            draw.text((x, y + height + 3 + k * LINE_PX), line, fill=ink, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Little compression takes a fifth of the time; enlarged pixels are small either way.
    sheet.save(path, pnginfo=png_info(parameters), compress_level=1)
