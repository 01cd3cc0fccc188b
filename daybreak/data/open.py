"""From a config to its source of batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.batch import Source
from daybreak.data.folder import FolderSource
from daybreak.data.scenes.source import ScenesSource
from daybreak.data.shards.reader import holds_shards
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
        return FolderSource(Path(d.folder).expanduser(), d.resolution, config.train.seed, d.background, d.flip)
    return ScenesSource(d.resolution, config.train.seed, d.task_weights, d.dense)


def with_data(config: Config, places: list[str]) -> Config:
    """`config` with the data that --data names: prepared shards where a place holds their index, else a folder.

    What only `scenes` knows is left out (`of_pictures`). Raises ConfigError where several are given and one of them
    holds no shards.
    """
    config = of_pictures(config)
    plain = [p for p in places if not holds_shards(p)]
    if not plain:
        return configs.override(configs.override(config, "data.source", "shards"), "data.shards", places)
    if len(places) > 1:
        raise ConfigError(
            f"--data {plain[0]} holds no shards, and only shards can be mixed: daybreak prepare makes them"
        )
    return configs.override(configs.override(config, "data.source", "folder"), "data.folder", plain[0])


def of_pictures(config: Config) -> Config:
    """`config` without what only `scenes` has: dense captions, words whose place is known, rules that expand."""
    expand = None if config.sample.expand == "scenes" else config.sample.expand
    return replace(
        config,
        data=replace(config.data, dense=0.0),
        grounding=replace(config.grounding, weight=0.0),
        sample=replace(config.sample, expand=expand),
    )
