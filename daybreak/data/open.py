"""From a config to its source of batches."""

from __future__ import annotations

from pathlib import Path

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.data.folder import FolderSource
from daybreak.data.scenes.source import ScenesSource


def open_source(config: Config) -> Source:
    """The source that `config.data` names; ConfigError where it can't be opened."""
    d = config.data
    if d.source == "folder":
        assert d.folder is not None  # config.check has seen to it
        return FolderSource(Path(d.folder).expanduser(), d.resolution, config.train.seed, d.background, d.flip)
    return ScenesSource(d.resolution, config.train.seed, d.task_weights)
