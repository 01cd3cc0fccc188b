"""A real, tiny vision-language model writes captions; killed in between, it does no shard twice."""

import io
import re
import shutil

import pyarrow as pa
import pytest
import torch
from making import captioned_folder, prepared
from PIL import Image
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.data.caption import write_captions
from daybreak.data.captioner import Captioner
from daybreak.data.folder import FolderSource
from daybreak.data.settings import Captioning, CaptionSettings, ModelWork
from daybreak.data.shards.reader import ShardReader
from daybreak.data.shards.source import ShardSource
from tests.data.tiny_vlm import tiny_vlm


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return tiny_vlm(tmp_path_factory.mktemp("vlm"))


@pytest.fixture
def shards(tmp_path):
    folder = captioned_folder(tmp_path / "folder", 20)
    text = (folder / "metadata.jsonl").read_text().replace("picture number 7", "")
    (folder / "metadata.jsonl").write_text(text)
    prepared(folder, tmp_path / "out", shard_mb=0.015, uncaptioned=True)
    return tmp_path / "out"


def write(shards, how, name="written") -> int:
    asked = CaptionSettings(how, name, weight=3.0, batch=4, work=ModelWork(workers=0))
    return write_captions(str(shards), asked, lambda *_: None)


def test_captions_join_the_others_and_a_kill_loses_nothing(shards, vlm, monkeypatch):
    how = Captioning(vlm, "Say.", max_tokens=6)
    captioner = Captioner(how.model, how.revision, how.prompt, how.max_tokens, torch.device("cpu"))
    whole = shutil.copytree(shards, shards.with_name("whole"))
    assert write(whole, how) == 20

    calls, resumed = 0, False

    class KilledError(Exception):
        pass

    class Counting(Captioner):
        def describe(self, pictures):
            nonlocal calls
            calls += len(pictures)
            if calls >= 12 and not resumed:
                raise KilledError
            return super().describe(pictures)

    monkeypatch.setattr("daybreak.data.captioner.Captioner", Counting)
    with pytest.raises(KilledError):
        write(shards, how)
    assert "written" not in ShardReader(str(shards)).index.captions  # half of it is not used
    files = (shards / "captions" / "written").glob("*.arrow")
    done = sum(len(pa.ipc.open_file(p).read_all()) for p in files)
    assert 0 < done < 12
    before, resumed = calls, True
    write(shards, how)
    assert calls - before == 20 - done

    a, b = ShardReader(str(shards)), ShardReader(str(whole))
    assert [a.captions(i) for i in range(20)] == [b.captions(i) for i in range(20)]
    assert a.index.captions == {"caption": 1.0, "written": 3.0}
    assert a.captioned.all()
    first = captioner.describe([Image.open(io.BytesIO(a.picture_bytes(i))).convert("RGB") for i in range(4)])
    assert [a.captions(i)["written"] for i in range(4)] == first

    source = ShardSource([str(shards)], 32, 8, batch=4, seed=0)
    seen = [c for start in range(0, 400, 4) for c in source.batch(start, 4).captions]
    own = sum(c.startswith("picture number") for c in seen)
    assert 0.15 < own / 400 < 0.35  # 1 to 3, and one row has none of its own


def test_a_model_that_cannot_be_loaded_takes_no_name(shards, vlm, tmp_path):
    with pytest.raises(ConfigError, match="--model .*typo cannot be loaded"):
        write(shards, Captioning(str(tmp_path / "typo"), "Say.", max_tokens=2))
    assert write(shards, Captioning(vlm, "Say.", max_tokens=2)) == 20


def test_other_captions_of_that_name_are_not_overwritten(shards, vlm):
    how = Captioning(vlm, "Say.", max_tokens=2)
    write(shards, how)
    with pytest.raises(ConfigError, match="begun with another model or prompt"):
        write(shards, Captioning(vlm, "Tell.", max_tokens=2))
    with pytest.raises(ConfigError, match="--name caption is taken"):
        write(shards, how, name="caption")


def test_a_model_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--model .*nowhere cannot be loaded"):
        Captioner(str(tmp_path / "nowhere"), "main", "Describe it.", 20, torch.device("cpu"))


def test_pictures_that_are_no_shards_get_one_line_that_says_what_makes_them(tmp_path):
    folder = captioned_folder(tmp_path / "folder", 2)
    done = CliRunner().invoke(app, ["embed", str(folder), "--model", "any"])
    assert isinstance(done.exception, ConfigError)
    assert f"daybreak prepare {folder} --out SHARDS makes them" in str(done.exception)


def plain_folder(folder):
    """Five pictures: one with a caption, one unreadable, two of one name; and a mask."""
    folder.mkdir()
    for name in ("a.png", "b.png", "c.jpg", "c.png", "a-mask.png"):
        Image.new("RGB", (40, 30), (200, len(name), 30)).save(folder / name)
    (folder / "a.caption").write_text("my own words")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def captioned_by_command(folder, vlm, *words):
    call = ["caption", folder, "--model", vlm, "--max-tokens", 8, "--prompt", "Say.", "--workers", 0, *words]
    done = CliRunner().invoke(app, list(map(str, call)), env={"COLUMNS": "200"})
    assert done.exit_code == 0, (done.exception, done.output)
    return done.output


def test_a_folder_gets_a_file_beside_each_picture_and_none_is_overwritten(vlm, tmp_path):
    folder = plain_folder(tmp_path / "folder")
    told = captioned_by_command(folder, vlm, "--trigger", "sks")
    texts = {p.name: p.read_text() for p in folder.iterdir() if p.suffix in (".txt", ".caption")}
    assert texts.keys() == {"a.caption", "b.txt", "c.jpg.txt", "c.png.txt"} and texts["a.caption"] == "my own words"
    assert all(text.startswith("sks, ") for name, text in texts.items() if name != "a.caption")
    assert f"3 captions beside the pictures of {folder}; 1 pictures have captions already" in told
    assert "broken.png: cannot identify the file as a picture" in told
    found = FolderSource(folder, 16, 0, (255, 255, 255))
    assert sorted(c for (c,) in found.captions) == sorted(t.strip() for t in texts.values())
    (folder / "b.txt").write_text("changed by hand")
    (folder / "broken.png").unlink()
    assert "0 captions" in captioned_by_command(folder, vlm)
    assert (folder / "b.txt").read_text() == "changed by hand"
    assert "4 captions" in captioned_by_command(folder, vlm, "--overwrite")
    assert (folder / "a.caption").read_text() != "my own words" and not (folder / "a.txt").exists()


def test_what_a_folder_cannot_have_is_one_line(vlm, shards, tmp_path):
    named = captioned_folder(tmp_path / "named", 2)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no picture")
    for place, words, said in (
        (named, [], "a table names .* and 1 others, so that a .txt beside them would not be read"),
        (tmp_path / "broken", [], "no caption was written; .*x.png: cannot identify"),
        (tmp_path / "broken", ["--name", "x"], "--name has no effect on a folder"),
        (shards, ["--overwrite"], "--overwrite has no effect on shards"),
        (tmp_path / "nowhere", [], "nowhere: no such file or folder"),
    ):
        done = CliRunner().invoke(app, ["caption", str(place), "--model", vlm, "--workers", "0", *words])
        assert isinstance(done.exception, ConfigError) and re.search(said, str(done.exception)), done.exception


def test_captions_of_shards_get_the_trigger_too(shards, vlm):
    write(shards, Captioning(vlm, "Say.", max_tokens=4, trigger="sks"))
    reader = ShardReader(str(shards))
    assert all(reader.captions(i)["written"].startswith("sks, ") for i in range(20))
