"""A row as it lies in a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from daybreak.data.places import is_remote, read_bytes


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

    def file(self) -> bytes | Path:
        """What a decoder reads: the bytes, or the path of a file that was not read yet. OSError where it can't be."""
        if self.data or self.place is None:
            return self.data
        return read_bytes(self.place) if is_remote(self.place) else Path(self.place)
