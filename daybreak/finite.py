"""Numbers that JSON does not know."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """A plain value, with None for each float that is infinite or no number, and lists for tuples."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
