"""What the page says of a model beside its limits: captions it learnt from, words it never met, sizes it knows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from daybreak import config as configs
from daybreak.caption_words import CaptionWords, look_at, read_words
from daybreak.config import Config
from daybreak.model_folder import CONFIG_FILE, Kind

SCENES_CAPTIONS = 5000
"""Of the embedded world; a tenth of them has all its words (measured)."""


@dataclass(frozen=True)
class About:
    """sides: of the squares that it was trained at, px; ratio: the widest shape, width over height, of as many pixels.

    Both are empty where that is not known.
    """

    words: CaptionWords = field(default_factory=CaptionWords)
    sides: tuple[int, ...] = ()
    ratio: float = 1.0


def about_model(folder: Path, kind: Kind) -> About:
    """What a model's folder tells; nothing where it tells nothing."""
    path = folder / ("config.yaml" if kind == "run" else CONFIG_FILE)
    if not path.is_file():
        return About(read_words(folder))
    config = configs.load(path)
    sides = {configs.at_stage(config, i).data.resolution for i in range(max(1, len(config.stages)))}
    if config.data.source == "scenes":
        return About(_scenes_words(config.data.dense), tuple(sorted(sides)))
    return About(read_words(folder), tuple(sorted(sides)), _ratio(config))


def _ratio(config: Config) -> float:
    return config.data.max_ratio if config.data.source == "shards" else 1.0


@cache
def _scenes_words(dense: float) -> CaptionWords:
    """Of the embedded world, whose captions are made; the examples are its short ones."""
    from daybreak.data.scenes.source import ScenesSource  # torch, which the server's own process does without

    short = ScenesSource(32, 0).some_captions(SCENES_CAPTIONS)
    every = look_at([*short, *ScenesSource(32, 0, dense=dense).some_captions(SCENES_CAPTIONS)])
    return replace(every, examples=look_at(short).examples)
