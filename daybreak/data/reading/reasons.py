"""Why a source gave nothing, in one sentence: each reason once, with its number and an example."""

from __future__ import annotations

import re
from collections import defaultdict

MOST = 3
"""Reasons told."""


def summary(left: list[tuple[str, str]]) -> str:
    """(path, reason) of all that cannot be used -> "9 no caption, such as a.png; 1 the file is empty (b.png)"."""
    groups: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, reason in left:
        groups[re.split(r"[(:]", re.sub(r"\d+", "", reason))[0]].append((path, reason))
    largest = sorted(groups.values(), key=len, reverse=True)
    told = [
        f"{len(g)} {g[0][1]}, such as {g[0][0]}" if len(g) > 1 else f"1 {g[0][1]} ({g[0][0]})" for g in largest[:MOST]
    ]
    rest = sum(len(g) for g in largest[MOST:])
    return "; ".join([*told, *([f"{rest} for other reasons"] if rest else [])])
