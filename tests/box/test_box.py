"""The model in the box: packed from a run, found by its name, and one that follows its prompts."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from daybreak import config as configs
from daybreak.box.pack import CURVE, MOST_BYTES, curve_of, pack
from daybreak.box.show import draw_beside_box, draw_from_box, plot_curves
from daybreak.evaluate.scoring import evaluate_scenes
from daybreak.formats.run import load_averaged
from daybreak.model_folder import BOX, model_folder
from daybreak.run_folder import IN_THE_BOX
from daybreak.sampling.generate import generate
from daybreak.train import checkpoint
from daybreak.train.loop import train
from tests.conftest import tiny_config, tiny_demo

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def judged_run(demo_run, tmp_path_factory):
    """A copy of the tiny run with a score."""
    run = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(demo_run, run)
    config = configs.load(run / "config.yaml")
    evaluate_scenes(*load_averaged(run, config, CPU), config, run)
    return run


def test_a_packed_run_draws_what_the_run_draws(judged_run, tmp_path):
    pack(judged_run, "0123abc", tmp_path / "box")
    config = configs.load(tmp_path / "box" / "config.yaml")
    assert config == configs.load(judged_run / "config.yaml")
    prompts = ["a red circle", "three small rings"]
    before, after = (
        generate(*load_averaged(folder, config, CPU), prompts, config, 3) for folder in (judged_run, tmp_path / "box")
    )
    assert 0 < (before - after).abs().max() < 0.02  # half precision, and no more
    assert curve_of(tmp_path / "box") == curve_of(judged_run)
    card = (tmp_path / "box" / "README.md").read_text()
    scores = json.loads((judged_run / "score.json").read_text())
    assert "git checkout 0123abc" in card
    assert f"| one and two objects | {scores['one_and_two_objects']:.0%} |" in card


def test_a_name_means_the_box_unless_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folder("scenes") == BOX / "scenes"
    assert str(model_folder("runs/scenes")) == "runs/scenes"
    (tmp_path / "scenes").mkdir()
    assert str(model_folder("scenes")) == "scenes"


def test_the_box_follows_its_prompts_and_is_small(tmp_path):
    score = draw_from_box(tmp_path / "box.png")
    assert score["one_and_two_objects"] >= 0.85 and score["held_out"] >= 0.6
    assert sum(p.stat().st_size for p in (BOX / "scenes").rglob("*") if p.is_file()) <= MOST_BYTES
    config = configs.load(BOX / "scenes" / "config.yaml")
    few = configs.override(configs.override(config, "evaluate.prompts_per_task", 4), "evaluate.held_out_prompts", 6)
    few = configs.override(few, "evaluate.seed", 99)  # other prompts than the card's
    found = evaluate_scenes(*load_averaged(BOX / "scenes", few, CPU), few, tmp_path)
    assert found.scores["one_and_two_objects"] >= 0.7


def test_the_demo_is_shown_beside_the_box(judged_run, tmp_path):
    networks = load_averaged(judged_run, tiny_demo(), CPU)
    draw_beside_box(*networks, tiny_demo(), tmp_path / "beside.png")
    plot_curves(judged_run, tmp_path / "curves.png")
    beside, box = (np.asarray(Image.open(tmp_path / name)) for name in ("beside.png", "curves.png"))
    assert beside.shape[0] > beside.shape[1] / 2 and box.std() > 0
    assert len(json.loads((BOX / "scenes" / CURVE).read_text())) >= 5


def test_a_run_begins_beside_what_the_box_drew(tmp_path):
    draw_from_box(tmp_path / "run" / IN_THE_BOX)
    train(tiny_config(train__steps=1), tmp_path / "run", [])
    assert checkpoint.complete(tmp_path / "run")
