"""Situations from public bug reports, as scripts beside this checkout write them: what is right, in all readers.

`python -m pytest tests/test_trials.py` runs them. The scripts are no part of the project; tests/data/reading has the
same outcomes written anew.
"""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from making import SMALL, lines_of, prepared
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.folder import FolderSource
from daybreak.data.inspect.look import look_at
from daybreak.data.pictures import decode
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.shards.reader import ShardReader
from daybreak.finetune.cache import split
from daybreak.finetune.pictures import open_pictures
from daybreak.finetune.shapes import Shapes

TRIALS = Path(__file__).parents[2] / "shared" / "trials"
pytestmark = pytest.mark.skipif(not TRIALS.is_dir(), reason="the trials' scripts are not beside this checkout")
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            subprocess.run([sys.executable, TRIALS / f"{name}.py", made[name]], check=True, capture_output=True)
        return made[name]

    return make


def by_prepare(source: Path, out: Path, **settings) -> tuple[dict[str, str], dict[str, str]]:
    """(key -> caption, key -> reason) of what is used and what is left out."""
    prepared(source, out, duplicates="keep", **settings)
    rows = pq.read_table(out / "data").to_pylist()
    column = next(iter(settings.get("captions", {"caption": 1})))
    return {r["key"]: r[column] for r in rows}, {d["key"]: d["reason"] for d in lines_of(out / "dropped.jsonl")}


def everywhere(source: Path, out: Path) -> tuple[dict[str, str], dict[str, str]]:
    """As by_prepare, after checking that training, fine-tuning and inspect use the same captions."""
    used, left = by_prepare(source, out)
    captions = sorted(used.values())
    assert sorted(c[0] for c in FolderSource(source, 16, 0, WHITE).captions) == captions
    assert sorted(open_pictures(str(source), Shapes.squares(16), WHITE).captions) == captions
    look = look_at(str(source), PrepareSettings(**SMALL, duplicates="keep"), 0, lambda *_: None)
    assert sorted(next(iter(row.captions.values())) for row in look.rows) == captions
    assert {key for key, _, _ in look.dropped} == left.keys()
    return used, left


def test_caption_encodings(trial, tmp_path):
    used, _ = everywhere(trial("caption_encodings"), tmp_path / "out")
    assert [used[f"{n}.png"] for n in ("a_utf8", "b_bom", "c_cp1252", "d_utf16")] == [
        "the painter’s café, a naïve sketch"
    ] * 4


@pytest.mark.parametrize(
    ("name", "used", "left"),
    [
        ("comma", "defgh", "line 2 has 3 fields for 2 columns"),
        ("quote_inside", "defgh", "line 2 has a quote inside"),
        ("unclosed", "defgh", "line 2 has a quote that is not closed"),
        ("multi_line", "adefgh", None),
        ("semicolons", "defgh", None),
        ("tabs", "defgh", None),
        ("short_row", "defgh", "no caption"),
    ],
)
def test_metadata_csv_rows(trial, tmp_path, name, used, left):
    found, dropped = everywhere(trial("metadata_csv_rows") / name, tmp_path / "out")
    assert found.keys() == {f"{n}.png" for n in used}
    assert (left is None and not dropped) or any(left in why for why in dropped.values())
    if name == "multi_line":
        assert found["a.png"] == 'first line\nsecond "quoted" line'


@pytest.mark.parametrize("name", ["split", "parquet", "lists", "windows", "prompt", "null"])
def test_metadata_elsewhere(trial, tmp_path, name):
    used, left = everywhere(trial("metadata_elsewhere") / name, tmp_path / "out")
    assert (len(used), len(left)) == ((6, 6) if name == "null" else (12, 0))
    first = "first" if name == "lists" else "caption"
    assert all(caption == f"{first} of {Path(key).name}" for key, caption in used.items())


@pytest.mark.parametrize("name", ["list_of_pictures", "conditioning_first", "md5_first", "base64", "thumbnail_first"])
def test_parquet_picture_columns(trial, tmp_path, name):
    used, left = everywhere(trial("parquet_picture_columns") / f"{name}.parquet", tmp_path / "out")
    assert len(used) == 12 and not left
    reader = ShardReader(str(tmp_path / "out"))
    for i in range(12):
        pixels = np.asarray(reader.picture(i, (64, 64))).astype(int)
        assert (pixels.max(-1) - pixels.min(-1)).max() > 40  # coloured


def test_several_captions(trial, tmp_path):
    table = trial("several_captions") / "several.parquet"
    by_prepare(table, tmp_path / "two", captions={"short": 1.0, "long": 1.0})
    pictures = open_pictures(str(tmp_path / "two"), Shapes.squares(16), WHITE)
    assert all({c.split()[0] for c, _ in of} == {"short", "long"} for of in pictures.choices)
    by_prepare(table, tmp_path / "list", captions={"captions": 1.0})
    pictures = open_pictures(str(tmp_path / "list"), Shapes.squares(16), WHITE)
    assert all(len(of) == 5 for of in pictures.choices)


def test_side_files(trial, tmp_path):
    used, left = everywhere(trial("side_files") / "mixed", tmp_path / "mixed")
    pictures = {n for n in [*used, *left] if not n.endswith((".txt", ".caption"))}
    assert pictures == {p.name for p in (trial("side_files") / "mixed").iterdir()
                        if p.suffix not in (".txt", ".caption")}  # fmt: skip
    assert {n for n in used if n[0] in "ae"} == {*(f"a{i}.jpg" for i in range(5)), *(f"e{i}.png" for i in range(3))}
    assert "Photoshop" in left["d0.psd"]
    used, left = everywhere(trial("side_files") / "caption_suffix", tmp_path / "suffix")
    assert len(used) == 8 and not left


def test_tiff_orientation(trial, tmp_path):
    folder = trial("tiff_orientation")
    used, _ = everywhere(folder, tmp_path / "out")
    assert len(used) == 16
    rows = pq.read_table(tmp_path / "out/data").to_pylist()
    assert {(r["original_width"], r["original_height"]) for r in rows} == {(96, 64)}
    for path in folder.glob("o*_*.*"):
        if path.suffix != ".txt":
            red = np.asarray(decode(path, WHITE).image)[4:28, 4:44].astype(int)
            assert np.abs(red.mean((0, 1)) - [254, 0, 0]).max() < 6
    for picture in open_pictures(str(folder), Shapes.squares(16), WHITE).pixels:
        assert picture[2, 2, 0] > 200 > 60 > picture[2, 2, 1]


def test_webdataset_dots(trial, tmp_path):
    folder = trial("webdataset_dots")
    for name, captions in (("dots", range(1, 5)), ("plain", range(5, 8)), ("mixed", range(8, 11))):
        used, left = everywhere(folder / f"{name}.tar", tmp_path / name)
        assert sorted(used.values()) == sorted(f"caption number {i}" for i in captions) and not left


@pytest.mark.parametrize("name", ["mask_first", "mask_last", "cap_img"])
def test_webdataset_two_pictures(trial, tmp_path, name):
    used, left = everywhere(trial("webdataset_two_pictures") / f"{name}.tar", tmp_path / "out")
    assert sorted(used.values()) == [f"picture {i}" for i in range(4)]
    assert all(re.search("mask|depth|seg", key) for key in left)
    for data in pq.read_table(tmp_path / "out/data")["image"].to_pylist():
        pixels = np.asarray(Image.open(io.BytesIO(data["bytes"])).convert("RGB")).astype(int)
        assert (pixels.max(-1) - pixels.min(-1)).max() > 40


def test_webdataset_left_and_right_are_a_question(trial, tmp_path):
    with pytest.raises(ConfigError, match="several pictures .left.jpg, right.jpg.*--image-key"):
        by_prepare(trial("webdataset_two_pictures") / "left_right.tar", tmp_path / "out")


def test_finetune_copies(trial):
    folder = trial("finetune_copies")
    pictures = open_pictures(str(folder), Shapes.squares(16), WHITE)
    assert pictures.copies == (24, 0)
    training, held = split(pictures.groups, 0.25, 0)
    files = [Path(row.key).read_bytes() for row in pictures.look.rows]
    assert len(held) == 12 and len(training) == 36
    assert not {files[i] for i in held} & {files[i] for i in training}
