"""A run that goes on with other pictures or captions than it began with says what is other."""

import re
from pathlib import Path

import numpy as np
import pytest
from making import captioned_folder, encoded, prepared

from daybreak.config import override
from daybreak.data.caption import write_captions
from daybreak.data.changes import as_checks, changes_since, save_checks
from daybreak.data.settings import Captioning, CaptionSettings, ModelWork
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.data.tiny_vlm import tiny_vlm
from tests.train.test_run import Recorder


def written(folder: Path, pictures, words: str) -> None:
    folder.mkdir(exist_ok=True)
    for i in pictures:
        (folder / f"{i:02d}.png").write_bytes(encoded(i, kind="PNG"))
        (folder / f"{i:02d}.txt").write_text(f"{words} {i}")


def told(run: Path, data: dict, resume: bool, steps: int) -> list[str]:
    """What the run says of its data, up to step `steps`."""
    config = tiny_config(train__steps=steps, train__batch=4, train__sample_every=1.0)
    for key, value in data.items():
        config = override(config, key, value)
    recorder = Recorder()
    train(config, run, [recorder], resume=resume)
    return [n for n in recorder.notes if "not those the run had before" in n]


def changed(folder: Path) -> None:
    """2 pictures gone, 3 new, 4 with other captions, one renamed."""
    for i in (0, 1):
        (folder / f"{i:02d}.png").unlink()
        (folder / f"{i:02d}.txt").unlink()
    written(folder, range(20, 23), "the big dog")
    for i in range(4, 8):
        (folder / f"{i:02d}.txt").write_text(f"the big dog {i}")
    for kind in ("png", "txt"):
        (folder / f"11.{kind}").rename(folder / f"0renamed.{kind}")


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_resumed_run_tells_what_is_other_in_its_data(tmp_path, kind):
    folder, run = tmp_path / "set", tmp_path / "run"
    written(folder, range(12), "a red circle")
    data = {"data.source": "folder", "data.folder": str(folder)}
    if kind == "shards":
        data = {"data.source": "shards", "data.shards": [str(tmp_path / "first")]}
        prepared(folder, tmp_path / "first")
    assert told(run, data, False, 2) == []
    assert told(run, data, True, 4) == []  # of what was not changed nothing is said
    changed(folder)
    if kind == "shards":
        data["data.shards"] = [str(tmp_path / "second")]
        prepared(folder, tmp_path / "second")
    (note,) = told(run, data, True, 6)
    assert re.search(r"\(2 gone, 3 new, 4 with other captions\); it goes on with what is there now", note)
    assert told(run, data, True, 8) == []  # told once


def test_captions_that_a_model_wrote_are_other_captions(tmp_path):
    prepared(captioned_folder(tmp_path / "set", 6), tmp_path / "out")
    data, run = {"data.source": "shards", "data.shards": [str(tmp_path / "out")]}, tmp_path / "run"
    told(run, data, False, 2)
    how = Captioning(tiny_vlm(tmp_path / "vlm"), "Say.", max_tokens=4)
    asked = CaptionSettings(how, batch=4, work=ModelWork(workers=0))
    assert write_captions(str(tmp_path / "out"), asked, lambda *_: None) == 6
    (note,) = told(run, data, True, 4)
    assert "(6 with other captions)" in note


def test_what_cannot_be_compared_is_not(tmp_path):
    checks = as_checks([(1, 2), (3, 4), (3, 4)])
    assert changes_since(tmp_path / "none.npy", checks) is None
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    assert changes_since(tmp_path / "cut.npy", checks) is None
    save_checks(tmp_path / "kept.npy", checks)
    assert changes_since(tmp_path / "kept.npy", checks[::-1]) == "the same ones in another order"
    assert changes_since(tmp_path / "kept.npy", checks[:2]) == "1 gone"
    assert changes_since(tmp_path / "kept.npy", np.concatenate([checks, as_checks([(9, 9)])])) == "1 new"
