"""A row as it lies in a source."""

from __future__ import annotations

from dataclasses import dataclass, field

from daybreak.data.places import read_bytes


@dataclass
class RawRow:
    """A row of a source: its encoded picture and captions, or the problem that kept one of them away.

    captions: column -> one or several texts. kind: of the problem, as dropped.jsonl calls it. notes: what was found out
    while reading. place: of a picture that is a file of its own.
    """

    key: str
    data: bytes = b""
    captions: dict[str, list[str]] = field(default_factory=dict)
    problem: str | None = None
    kind: str = "broken"
    notes: list[str] = field(default_factory=list)
    place: str | None = None

    def read(self) -> bytes:
        """The encoded picture, also of a file that was not read yet. OSError where it can't be."""
        return self.data if self.data or self.place is None else read_bytes(self.place)
