"""What every trainee that learns preferences has: its pairs, round by round, and its yardstick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.prefer.ballots import LEAST
from daybreak.prefer.figures import NOISES, Seen, Yardstick
from daybreak.prefer.own import pairs_folder
from daybreak.prefer.pairs import PairSource, read_pairs, write_pairs
from daybreak.prefer.prompts import Prompts
from daybreak.prefer.ranking import Draw, Ranking, WriteOut
from daybreak.prefer.settings import PreferSettings
from daybreak.train.watch import MetricsRecord, StepRecord


@dataclass
class Lessons:
    """folder: the run's. prompts: the run's. write_out: prompts to captions. ranking: makes pairs where a judge does;
    else they are in the run's folder. last: what was drawn for the yardstick last."""

    settings: PreferSettings
    folder: Path
    prompts: Prompts
    yardstick: Yardstick
    write_out: WriteOut
    ranking: Ranking | None = None
    last: Seen | None = field(default=None)
    _alarms: list[tuple[str, str]] = field(default_factory=list)

    def pairs(self, index: int, side: int, seed: int, draw: Draw) -> PairSource:
        """The pairs of round `index` as squares of `side` px, which `draw` draws now where they are not there yet.

        Where they are fewer than LEAST, those of the rounds before are taken too. ConfigError where the first round has
        none.
        """
        folder = pairs_folder(self.folder, index)
        ranking = self.ranking
        if ranking is not None and not folder.is_dir():
            write_pairs(folder, ranking.draw(index, draw, self.write_out))
        folders = [folder]
        while index > 0 and sum(len(read_pairs(f)) for f in folders) < LEAST:
            index -= 1
            folders.insert(0, pairs_folder(self.folder, index))
        source = PairSource(folders, side, seed)
        if not source.pairs:
            raise ConfigError(
                f"--judge {self.settings.judge} finds the {self.settings.pictures} pictures of each of "
                f"{self.settings.prompts} prompts as good: there is nothing to learn from it; with more --prompts or "
                "--pictures there may be"
            )
        return source

    def drawn_at_end(self, compared: bool) -> int:
        """Pictures that the report draws: of held-out prompts, and those that are compared as sets."""
        return NOISES * len(self.yardstick.captions) + 2 * self.settings.count * compared

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
