"""Pairs from a folder in Pick-a-Pic's layout (arXiv 2305.01569): Parquet files with two pictures and a choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.data.pictures import decode
from daybreak.prefer.ballots import LEAST
from daybreak.prefer.pairs import WHITE, Drawn
from daybreak.prefer.pick_a_pic_files import COLUMNS, files_of

AT_ONCE = 64
"""Rows in memory."""


@dataclass
class PickAPic:
    """The rows of a folder, all accounted for: pairs, ties, and what cannot be used with its reason."""

    folder: Path
    pairs: int = 0
    ties: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def describe(self) -> str:
        """One line for the log."""
        rest = f"; {len(self.skipped)} rows skipped" if self.skipped else ""
        return f"{self.pairs} pairs of {self.folder}; {self.ties} ties left out{rest}"

    def read(self) -> Iterator[Drawn]:
        """The pairs. ConfigError where there are too few."""
        import pyarrow.parquet as pq

        for path in files_of(self.folder):
            number = 0
            for batch in pq.ParquetFile(path).iter_batches(AT_ONCE, columns=list(COLUMNS)):
                for row in batch.to_pylist():
                    pair = self._pair(f"{path.name}, row {number}", row)
                    number += 1
                    if pair is not None:
                        self.pairs += 1
                        yield pair
        if self.pairs < LEAST:
            first = f"; the first: {self.skipped[0].path}: {self.skipped[0].reason}" if self.skipped else ""
            raise ConfigError(
                f"--pairs {self.folder}: {self.pairs} pairs, {self.ties} ties and {len(self.skipped)} rows that cannot "
                f"be used{first}; at least {LEAST} pairs are needed"
            )

    def _pair(self, where: str, row: dict[str, Any]) -> Drawn | None:
        labels, caption = (row["label_0"], row["label_1"]), row["caption"]
        if not isinstance(caption, str) or not caption.strip():
            return self._skip(where, "no caption")
        if labels in ((0.5, 0.5), (0, 0)):
            self.ties += 1
            return None
        if sorted(map(str, map(float, (x for x in labels if x is not None)))) != ["0.0", "1.0"]:
            return self._skip(where, f"label_0 and label_1 are {labels[0]} and {labels[1]}, not 1 and 0, or 0.5 both")
        pictures = [row["jpg_0"], row["jpg_1"]]
        for name, picture in zip(("jpg_0", "jpg_1"), pictures, strict=True):
            if not isinstance(picture, bytes):
                return self._skip(where, f"no {name}")
            try:
                decode(picture, WHITE)
            except ValueError as e:
                return self._skip(where, f"{name}: {e}")
        winner, loser = pictures if labels[0] == 1 else reversed(pictures)
        return Drawn(caption.strip(), caption.strip(), winner, loser)

    def _skip(self, where: str, reason: str) -> None:
        self.skipped.append(Skipped(where, reason))
