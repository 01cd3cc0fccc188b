"""What a user may say of how a source is to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from daybreak.config import ConfigError

Lines = Literal["whole", "lines", "first"]


@dataclass(frozen=True)
class Reading:
    """How a source is read. Raises ConfigError, naming the flag, for a value out of its range."""

    captions: dict[str, float] = field(default_factory=dict)
    """Caption column -> weight; empty: found by their usual names."""
    image_column: str | None = None
    """Column with the picture, its path or its address; default: found by its content and usual name."""
    image_key: str | None = None
    """Extension of the picture in a WebDataset sample, such as jpg or left.jpg; default: the plain one."""
    lines: Lines = "whole"
    """Line breaks: whole: they belong to the caption; lines: each line is a caption; first: the first line is it."""
    uncaptioned: bool = False
    """Keep pictures without a caption."""

    def __post_init__(self) -> None:
        if self.lines not in get_args(Lines):
            raise ConfigError(f"--captions is {self.lines!r}; it must be one of {', '.join(get_args(Lines))}")

    @property
    def caption_columns(self) -> dict[str, float]:
        """The names that captions go by, and their weights."""
        return self.captions or {"caption": 1.0}
