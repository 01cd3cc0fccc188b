"""What the annotation of a setting says beside its type: which values it may have, and the flag that sets it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Bounds:
    """Where a number lies: at least `least`, or above `above`; at most `most`, or below `below`."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def hold(self, value: float) -> bool:
        """Whether `value` lies within them."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def words(self, shown: Callable[[float], str]) -> str:
        """ "at least 1", "between 0 and 1"; shown: how a number is written."""
        if self.least is not None and self.most is not None:
            return f"between {shown(self.least)} and {shown(self.most)}"
        named = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        return " and ".join(f"{word} {shown(number)}" for word, number in named if number is not None)


Count = Annotated[int, Bounds(least=1)]
Natural = Annotated[int, Bounds(least=0)]
Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(least=0)]
Share = Annotated[float, Bounds(least=0, most=1)]
PositiveShare = Annotated[float, Bounds(above=0, most=1)]
BelowOne = Annotated[float, Bounds(least=0, below=1)]


@dataclass(frozen=True)
class Flag:
    """The name of a setting on the command line where the field's does not say it; without dashes: an argument's."""

    name: str


@dataclass(frozen=True)
class Typed:
    """How a value is typed where that is not the plain form of its type.

    parse: from the text and the name of the setting to the value, ConfigError where it is none. form: what stands for
    the text in the help. shown: the text again.
    """

    parse: Callable[[str, str], Any]
    form: str
    shown: Callable[[Any], str] = str
