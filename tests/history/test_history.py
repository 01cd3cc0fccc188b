"""A run seen from outside: where it stands, and beside another."""

import re
import shutil

import pytest
from PIL import Image
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.train.loop import train
from tests.conftest import tiny_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = {"train__sample_every": 1.0, "train__watch_every": 4, "budget__price": 2.0, "sample__steps": 2}
    train(tiny_config(train__steps=8, **settings), folder / "a", [])
    train(tiny_config(train__steps=6, train__batch=4, **settings), folder / "b", [])
    return folder


def said(*words):
    result = CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_status_of_a_finished_run(runs):
    text = said("status", runs / "a")
    for part in ("finished", "100.0%", "step-00000008", "cost USD", "loss by noise level", "efficiency",
                 "main memory GiB"):  # fmt: skip
        assert part in text
    assert re.search(r"pictures +64\n", text)


def test_the_score_of_the_evaluation_is_shown(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "a", run)
    (run / "score.json").write_text('{"overall": 0.625}')
    assert re.search(r"score +62.5%\n", said("status", run))
    assert "62.5%" in said("compare", run, runs / "b", "--out", tmp_path / "losses.png")


def test_status_says_what_is_damaged_and_passes_over_half_a_line(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "a", run)
    (run / "checkpoints" / "step-00000008" / "state.json").write_text("{}")
    with (run / "log.jsonl").open("a") as file:
        file.write('{"event": "st')
    assert "DAMAGED: state.json is damaged" in said("status", run)


def test_compare_shows_what_differs_and_plots(runs, tmp_path):
    text = said("compare", runs / "a", runs / "b", "--out", tmp_path / "losses.png")
    assert "train.batch" in text and "train.steps" in text and "model.width" not in text
    with Image.open(tmp_path / "losses.png") as image:
        assert image.width > 1000


def test_mistakes(runs, tmp_path):
    for words, message in (
        (["status", tmp_path], "neither config.yaml nor finetune.yaml"),
        (["compare", runs / "a"], "two or more"),
        (["compare", runs / "a", runs / "b", "--out", "x.jpg"], "should end in .png"),
    ):
        result = CliRunner().invoke(app, [*map(str, words)])
        assert isinstance(result.exception, ConfigError) and message in str(result.exception)
