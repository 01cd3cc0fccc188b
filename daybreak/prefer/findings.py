"""What a report says: figures before and after, alarms, notes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A figure before and after. better: higher, lower, or neither. share: told in per cent. interval: of
    the change, 95 %, where there is one.
    """

    what: str
    before: float
    after: float
    better: str = "higher"
    share: bool = False
    interval: tuple[float, float] | None = None

    def cells(self) -> list[str]:
        """What, before, after, better."""
        shown = (lambda v: f"{v:.1%}") if self.share else (lambda v: f"{v:.4g}")
        return [self.what, shown(self.before), shown(self.after), self.better]


@dataclass
class Findings:
    """rows: figures before and after. alarms: sentences on what speaks against what was learnt. notes: what a reader of
    the figures has to know, and what was not measured, and why."""

    rows: list[Row]
    alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verdict(found: Findings) -> list[str]:
    """Sentences: what changed for sure, and what speaks against it."""
    lines = []
    for row in found.rows:
        if row.interval is not None:
            low, high = row.interval
            word = "rose" if low > 0 else "fell" if high < 0 else "did not change for sure"
            lines.append(f"{row.what}: {word}, from {row.before:.4g} to {row.after:.4g} ({low:+.3g} to {high:+.3g})")
    return lines + found.alarms
