"""Captions that are tags, in another order each time."""

from __future__ import annotations

import numpy as np


def shuffled(caption: str, kept: int, separator: str, trigger: str | None, random: np.random.Generator) -> str:
    """The tags of a caption, divided by `separator`, in another order; the first `kept` stay, and a leading trigger."""
    tags = [tag.strip() for tag in caption.split(separator) if tag.strip()]
    kept += bool(trigger and tags and tags[0] == trigger)
    rest = [tags[kept + i] for i in random.permutation(max(0, len(tags) - kept))]
    return f"{separator} ".join([*tags[:kept], *rest])
