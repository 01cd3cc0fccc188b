"""What a user may say of how a source is to be read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

from daybreak.config import ConfigError
from daybreak.config.bounds import Flag, Typed
from daybreak.config.fields import Checked
from daybreak.config.settings import Lines


def parse_caption(word: str, flag: str) -> tuple[str, float]:
    """ "long=0.7" -> ("long", 0.7); a bare name has weight 1."""
    name, equals, weight = word.partition("=")
    try:
        number = float(weight) if equals else 1.0
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(f"{flag} {word}: the weight must be a number above 0, as in long=0.7")
    if not name:
        raise ConfigError(f"{flag} {word}: the column has no name")
    return name, number


@dataclass(frozen=True)
class Reading(Checked):
    """How a source is read."""

    captions: Annotated[dict[str, float], Typed(parse_caption, "COLUMN[=WEIGHT]"), Flag("--caption")] = field(
        default_factory=dict
    )
    """Columns of captions, and how often training takes each; empty: found by their usual names."""
    image_column: str | None = None
    """Column with the picture, its path or its address; none: found by its content and usual name."""
    image_key: str | None = None
    """Extension of the picture in a WebDataset sample, such as jpg or left.jpg; none: the plain one."""
    lines: Annotated[Lines, Flag("--captions")] = "whole"
    """Line breaks in captions: they belong to it (whole), divide several (lines), or end it (first)."""
    uncaptioned: bool = False
    """Keep pictures without a caption, for `daybreak caption`."""

    @property
    def caption_columns(self) -> dict[str, float]:
        """The names that captions go by, and their weights."""
        return self.captions or {"caption": 1.0}
