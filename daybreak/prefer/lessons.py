"""What every trainee that learns preferences has: its pairs, round by round, and its yardstick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from daybreak.prefer.figures import Seen, Yardstick
from daybreak.prefer.own import pairs_folder
from daybreak.prefer.pairs import PairSource, write_pairs
from daybreak.prefer.ranking import Draw, Ranking, WriteOut
from daybreak.prefer.settings import PreferSettings
from daybreak.train.watch import MetricsRecord, StepRecord


@dataclass
class Lessons:
    """folder: the run's. ranking: makes pairs where a judge does; else they are in the run's folder. last: what was
    drawn for the yardstick last."""

    settings: PreferSettings
    folder: Path
    yardstick: Yardstick
    ranking: Ranking | None = None
    last: Seen | None = field(default=None)
    _alarms: list[tuple[str, str]] = field(default_factory=list)

    def pairs(self, index: int, side: int, seed: int, draw: Draw, write_out: WriteOut) -> PairSource:
        """The pairs of round `index` as squares of `side` px, which `draw` draws now where they are not there yet."""
        folder = pairs_folder(self.folder, index)
        if self.ranking is not None and not folder.is_dir():
            write_pairs(folder, self.ranking.draw(index, draw, write_out))
        return PairSource(folder, side, seed)

    def measure(self, draw: Draw, reference: Draw) -> dict[str, float]:
        """The figures of the yardstick, by name; what they give reason to say comes with the next `remarks`."""
        before = self.yardstick.before
        if before is None:
            before = self.yardstick.before = self.yardstick.see(reference)
        self.last = self.yardstick.see(draw)
        self._alarms = self.yardstick.alarms(self.last)
        return self.yardstick.figures(self.last)

    def remarks(self, record: StepRecord | MetricsRecord) -> list[tuple[str, str]]:
        """See `Trainee`: after a measurement, what it gives reason to say."""
        if isinstance(record, StepRecord):
            return []
        told, self._alarms = self._alarms, []
        return told
