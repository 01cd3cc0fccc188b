"""A stage of a run: the settings that hold in it, its stream of batches, its probe."""

from __future__ import annotations

import dataclasses

from daybreak import config as configs
from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.data.open import open_source
from daybreak.data.stream import stream
from daybreak.evaluate.samples_during_training import Probe
from daybreak.train.distributed import Processes

ORDER_SEED = 1_000_003
"""Added to the seed of the data's order for each return to a checkpoint."""


class Stage:
    """Stage `index` of `config`, from sample number `position` on; this process's share of each batch."""

    def __init__(
        self, config: Config, index: int, position: int, rollbacks: int, processes: Processes,
        source: Source | None = None,
    ) -> None:  # fmt: skip
        self.index = index
        self.config = configs.at_stage(config, index)
        self.source = source or open_stage_source(config, index, rollbacks)
        self.probe = Probe(self.config, self.source)
        batch = self.config.train.batch
        rows = processes.share(batch)
        self.batches = stream(
            self.source, position + rows.start, rows.stop - rows.start, self.config.data.workers, stride=batch
        )


def open_stage_source(config: Config, index: int, rollbacks: int) -> Source:
    """The data of a stage; after a return to a checkpoint they come in another order."""
    c = configs.at_stage(config, index)
    return open_source(
        dataclasses.replace(c, train=dataclasses.replace(c.train, seed=c.train.seed + ORDER_SEED * rollbacks))
    )
