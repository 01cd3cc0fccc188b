"""Several processes that hold a model give what one gives; wrong engines and counts are one line."""

import shutil
import sys

import pytest
import torch
from making import captioned_folder, prepared, tree
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from tests.encoders.test_pretrained_text import saved


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    saved("qwen3", folder / "encoder")
    prepared(captioned_folder(folder / "pictures", 30), folder / "shards", size=64, shard_mb=0.02)
    return folder


def embed(place, shards, *words):
    model = ["--model", str(place / "encoder"), "--max-tokens", "40", "--batch", "5"]
    return CliRunner().invoke(app, ["embed", str(shards), *model, *words])


def test_two_processes_give_what_one_gives(place):
    one, two = (shutil.copytree(place / "shards", place / n) for n in ("one", "two"))
    assert embed(place, one).exit_code == 0
    assert embed(place, two, "--workers", "2").exit_code == 0
    assert len(list((two / "embeddings" / "text").glob("*.safetensors"))) > 2
    assert tree(one) == tree(two)


def test_an_error_in_a_process_is_raised_here(place):
    wrong = CliRunner().invoke(app, ["embed", str(place / "shards"), "--model", "/nowhere", "--workers", "1"])
    assert isinstance(wrong.exception, ConfigError)
    assert "--model /nowhere cannot be loaded" in str(wrong.exception)


def test_without_ray_the_extra_is_named(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for words in (
        ["embed", place / "shards", "--model", place / "encoder", "--name", "absent"],
        ["caption", place / "shards", "--model", place / "encoder"],
        ["prepare", place / "pictures", "--size", 64, "--patch", 8, "--out", place / "absent"],
    ):
        done = CliRunner().invoke(app, [*map(str, words), "--engine", "ray"])
        assert isinstance(done.exception, ConfigError), done.output
        assert str(done.exception) == (
            "--engine ray needs the package ray, which is not installed: pip install 'daybreak[ray]'"
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "spark"), "--engine is 'spark'; it must be one of processes, ray"),
        (("--engine", "ray", "--workers", "0"), "--workers 0 is this process alone; with --engine ray it must be at"),
    ],
)
def test_wrong_engines_are_named(place, words, message):
    done = embed(place, place / "shards", "--name", "wrong", *words)
    assert message in str(done.exception)


def test_more_workers_than_gpus_are_refused(place, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    done = embed(place, place / "shards", "--name", "wrong", "--workers", "3")
    assert str(done.exception) == "--workers is 3, but each takes a GPU and there are 2; leave it out for all"
