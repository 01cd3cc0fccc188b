"""From a config to its source of batches."""

from __future__ import annotations

from pathlib import Path

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.data.folder import FolderSource
from daybreak.data.places import is_remote
from daybreak.data.scenes.source import ScenesSource
from daybreak.data.shards.source import ShardSource


def open_source(config: Config) -> Source:
    """The source that `config.data` names; ConfigError where it can't be opened."""
    d = config.data
    if d.source == "shards":
        return ShardSource(
            list(d.shards),
            d.resolution,
            config.model.patch,
            config.train.batch,
            config.train.seed,
            max_ratio=d.max_ratio,
            weights=d.weights,
            flip=d.flip,
            bad_share=d.bad_share,
            cache=Path(d.cache).expanduser() if d.cache else None,
            cache_bytes=int(d.cache_gb * 1e9),
            embeddings=d.embeddings,
            text=config.text,
        )
    if d.source == "folder":
        assert d.folder is not None  # config.check has seen to it
        return FolderSource(
            d.folder if is_remote(d.folder) else Path(d.folder).expanduser(),
            d.resolution,
            config.train.seed,
            d.background,
            d.flip,
            d.captions,
        )
    return ScenesSource(d.resolution, config.train.seed, d.task_weights, d.dense)
