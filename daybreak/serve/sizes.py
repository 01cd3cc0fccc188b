"""Which size is drawn where one is asked for."""

from __future__ import annotations

import math
import re

from daybreak.serve.models import ModelInfo


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(width, height) of "WIDTHxHEIGHT"; None where no size is asked for."""
    found = re.fullmatch(r"(\d+)x(\d+)", text or "")
    return None if found is None else (int(found[1]), int(found[2]))


def has_size(info: ModelInfo, width: int, height: int) -> bool:
    """Whether a model can draw exactly this size."""
    return max(width, height) <= info.max_size and width % info.multiple == height % info.multiple == 0


def nearest_size(info: ModelInfo, width: int, height: int) -> tuple[int, int]:
    """The size that a model draws where (width, height) is asked for.

    A side that does not divide is rounded. Of what is too large the shape is kept, at as many pixels as the model was
    trained at: at more of them it would draw worse.
    """
    scale = 1.0 if max(width, height) <= info.max_size else info.size / math.sqrt(width * height)
    return _side(info, width * scale), _side(info, height * scale)


def _side(info: ModelInfo, wanted: float) -> int:
    most = info.max_size // info.multiple
    return max(1, min(most, round(wanted / info.multiple))) * info.multiple
