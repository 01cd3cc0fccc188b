"""`daybreak prefer` in a process of its own, killed with SIGKILL while it trains, ends in the bits of a whole run."""

import json
import shutil

import pytest
import torch
from rich.console import Console

from daybreak import checkpoint_files
from daybreak.commands.prefer import resume_prefer
from daybreak.config import load, override, save
from daybreak.formats.weights import read_tensors
from daybreak.prefer.asked import run_to_resume
from daybreak.prefer.settings import PreferSettings
from tests.evaluate.tiny_models import save_clip
from tests.in_process import here
from tests.kills import kill_while_it_trains
from tests.prefer.test_prefer import picked

STEPS = 8


@pytest.fixture(scope="module")
def model(demo_run, tmp_path_factory):
    """A run that saves each step, and whose samples are of one prompt."""
    run = shutil.copytree(demo_run, tmp_path_factory.mktemp("model") / "run")
    config = load(run / "config.yaml")
    changes = {"train.save_steps": 1, "train.keep": STEPS, "evaluate.grid_prompts": ("a red circle",)}
    for name, value in changes.items():
        config = override(config, name, value)
    save(config, run / "config.yaml")
    return run


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pick")
    picked(folder / "a.parquet", [(f"thing {i}", (250, 250, 250), (5, 5, 5), 1.0, 0.0) for i in range(12)])
    return ["--pairs", folder, "--batch", 4]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    clip = save_clip(tmp_path_factory.mktemp("clip"))
    return ["--judge", clip, "--online", "--batch", 2, "--draw-steps", 3]


@pytest.mark.parametrize("how", ["pairs", "judge"])
def test_killed_it_goes_on_to_the_same_bits(how, model, tmp_path, request, monkeypatch, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    small = ["--steps", STEPS, "--held-out", 2, "--count", 50, "--lr", 0.01]
    words = ["prefer", model, *request.getfixturevalue(how), *small]
    done = here([*words, "--out", whole], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line)["event"] for line in (whole / "log.jsonl").read_text().splitlines()]
    fourth = [i for i, event in enumerate(events) if event == "step"][3]
    assert kill_while_it_trains([*words, "--out", killed], killed, fourth + 1, 0.0)
    last = checkpoint_files.complete(killed)[-1].name
    assert "step-00000000" < last < f"step-{STEPS:08d}"
    resume_prefer(Console(quiet=True), run_to_resume(killed, PreferSettings(), None), killed)
    a, b = (checkpoint_files.complete(run)[-1] for run in (whole, killed))
    assert a.name == b.name == f"step-{STEPS:08d}"
    for file in [p.relative_to(a) for p in a.rglob("*.safetensors")]:
        ours, theirs = read_tensors(a / file), read_tensors(b / file)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    reference = read_tensors(whole / "reference" / "transformer.safetensors")
    trained = read_tensors(a / "transformer.safetensors")
    assert not all(torch.equal(trained[k], reference[k]) for k in trained)
