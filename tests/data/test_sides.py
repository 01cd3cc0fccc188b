"""The size at which pictures are trained and prepared, chosen from them."""

import json
from pathlib import Path

import pytest

from daybreak.arguments import asked_training
from daybreak.config import BudgetConfig, ConfigError
from daybreak.data.prepare.run import prepare
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import make_plan
from daybreak.data.sides import fitting_side, shorter_sides
from tests.making import captioned_folder


def test_the_largest_side_that_nine_of_ten_pictures_have(tmp_path):
    folder = captioned_folder(tmp_path / "pictures", 20, lambda i: (40, 60) if i == 0 else (300, 270 + i))
    (folder / "broken.jpg").write_bytes(b"no picture")
    sides = shorter_sides(make_plan([str(folder)], Reading()), Reading())
    assert sides == [40, *range(271, 290)]
    assert fitting_side(sides, 32, 1024) == 256 and fitting_side(sides, 32, 128) == 128
    assert fitting_side([40] * 3 + [300] * 7, 32, 1024) == 32  # of smaller ones, what they have
    assert fitting_side([], 32, 1024) == 1024


def asked(folder: Path, *settings: str):
    return asked_training(["folder", *settings], [str(folder)], None, None, None, BudgetConfig())


def test_train_folder_takes_the_side_of_small_pictures_and_tells_of_large_ones(tmp_path):
    small, large = (captioned_folder(tmp_path / name, 3, (s, s)) for name, s in (("small", 50), ("large", 260)))
    told = asked(small)
    assert told.config.data.resolution == 48 and "48, in place of the recipe's 64" in told.notes[0]
    told = asked(large)
    assert told.config.data.resolution == 64 and "--data.resolution 128" in told.notes[0]
    for resolution in ("32", "64"):
        told = asked(large, "--data.resolution", resolution)
        assert told.config.data.resolution == int(resolution) and not told.notes


def test_a_size_that_no_picture_has_names_one_and_does_not_block_it(tmp_path):
    source, out = captioned_folder(tmp_path / "pictures", 3, (100, 100)), str(tmp_path / "shards")
    with pytest.raises(ConfigError, match="no picture of .* can be used: .*large enough for --size 96"):
        prepare([str(source)], out, PrepareSettings(), 0)
    assert len((tmp_path / "shards" / "dropped.jsonl").read_text().splitlines()) == 3
    assert prepare([str(source)], out, PrepareSettings(size=96), 0).index.rows == 3
    assert json.loads((tmp_path / "shards" / "index.json").read_text())["size"] == 96
