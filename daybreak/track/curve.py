"""Score over time, and what is read from it: the time to a target, or the value at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daybreak.track.rules import Target, Track

Point = tuple[float, float]
"""(charged seconds of the reference machine, score)."""


def charged(seconds: float, clock: Mapping[str, Any], track: Track) -> float:
    """Seconds of the wall as seconds of the reference machine, with what the run's teachers took.

    The larger of the two rates counts, before and after the run: a machine that was disturbed while one was measured
    must not make the run look faster than it was. A teacher's seconds are taken as its file has them.
    """
    rate = max(clock["rate_before"], clock["rate_after"])
    return seconds * rate / track.reference_rate + clock["teacher_seconds"]


def points(rows: Sequence[Mapping[str, Any]], measure: str, clock: Mapping[str, Any], track: Track) -> list[Point]:
    """The curve of one run. rows: of each kept average its `seconds` of the wall and its scores."""
    return [(charged(row["seconds"], clock, track), row[measure]) for row in rows]


def time_to(curve: Sequence[Point], reach: float, limit: float) -> float | None:
    """When the curve reaches `reach`, between two points in proportion; None where it does not within `limit`.

    A point counts where the next one has reached it too, or where it is the run's last: the best of many noisy scores
    would come too early.
    """
    for i, (seconds, score) in enumerate(curve):
        if score < reach or (i + 1 < len(curve) and curve[i + 1][1] < reach):
            continue
        if i > 0:
            before, low = curve[i - 1]
            if low < reach:
                seconds = before + (seconds - before) * (reach - low) / (score - low)
        return seconds if seconds <= limit else None
    return None


def value_at(curve: Sequence[Point], seconds: float) -> float | None:
    """The score of the last point that was there by then; None before the first."""
    there = [score for at, score in curve if at <= seconds]
    return there[-1] if there else None


def figure(curve: Sequence[Point], target: Target, track: Track) -> float | None:
    """What a target compares of one run; less is better. None where it was not reached."""
    if target.reach is not None:
        return time_to(curve, target.reach, track.limit)
    assert target.at is not None
    return value_at(curve, target.at)
