"""A stage of a run: the settings that hold in it, and its stream of batches."""

from __future__ import annotations

from daybreak import config as configs
from daybreak.data.batch import Source
from daybreak.data.stream import stream
from daybreak.parallel import Ranks
from daybreak.train.trainee import Trainee


class Stage:
    """Stage `index` of a trainee's config, from its position on; this process's share of each batch."""

    def __init__(self, trainee: Trainee, index: int, ranks: Ranks, source: Source | None = None) -> None:
        self.index = index
        self.config = configs.at_stage(trainee.config, index)
        self.source = source or trainee.open_source(index)
        trainee.enter(self.config, self.source)
        batch = self.config.train.batch
        rows = ranks.rows(batch)
        self.batches = stream(
            self.source, trainee.position + rows.start, rows.stop - rows.start, self.config.data.workers, stride=batch
        )
