"""An entry run again: whether the second time says what the first one says, within the track's tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daybreak.track.rules import Target, Track


@dataclass(frozen=True)
class Comparison:
    """One target, as the entry says and as it came out again. least: the worst that still confirms it."""

    target: Target
    told: float | None
    again: float | None
    least: float | None

    @property
    def confirmed(self) -> bool:
        """Not slower, and no further away, than the tolerance allows; what the entry did not reach needs no proof."""
        return self.told is None or (self.again is not None and self.least is not None and self.again <= self.least)


def compare(track: Track, entry: dict[str, Any], again: dict[str, Any]) -> list[Comparison]:
    """Each target of the two entries. A run again may be faster by any amount: that takes nothing from the entry."""
    found = []
    for target in track.targets:
        told, now = (e["figures"][target.name]["mean"] for e in (entry, again))
        tolerance = track.time_tolerance if target.reach is not None else track.score_tolerance
        found.append(Comparison(target, told, now, told * (1 + tolerance) if told is not None else None))
    return found
