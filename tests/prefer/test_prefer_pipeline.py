"""Preferences of a pipeline of diffusers, whole and by a LoRA: the same loop, another trainee."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from daybreak import checkpoint_files
from daybreak.commands.prefer import open_learner, resume_prefer
from daybreak.config import override
from daybreak.files import new_folder
from daybreak.finetune import settings as finetune_settings
from daybreak.finetune.result import open_result
from daybreak.formats.weights import read_tensors
from daybreak.prefer.asked import check_prefer, run_to_resume
from daybreak.prefer.pipeline_opening import begin_pipeline
from daybreak.prefer.settings import PreferSettings
from daybreak.train.loop import train_on
from tests.finetune.tiny import save_sd
from tests.prefer.test_prefer import picked

WORDS = ("a red circle", "a blue square", "a green triangle on white", "a big yellow dog", "the small square")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_sd(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """White pictures are preferred to black ones, whatever is asked for."""
    folder = tmp_path_factory.mktemp("pick")
    white, black = (250, 250, 250), (5, 5, 5)
    picked(folder / "a.parquet", [(f"{word} {i}", white, black, 1.0, 0.0) for i in range(2) for word in WORDS])
    (folder / "prompts.txt").write_text("\n".join(WORDS))
    return folder


def begun(base, pairs, run, **settings):
    asked = PreferSettings(run=str(base), pairs=str(pairs), captions=str(pairs / "prompts.txt"), held_out=2, **settings)
    asked = check_prefer(asked, run)
    with new_folder(run) as building:
        building.mkdir()
        begin_pipeline(asked, building, lambda _: None)
    drawn = replace(finetune_settings.load(run), sample_steps=1, sampler="ddim", sample_every=100)  # in less time
    finetune_settings.save(drawn, run)
    return asked


@torch.no_grad()
def fixed_loss(trainee):
    """The preference's loss on all pairs, with fixed noise at eight draws of noise levels: log 2 at the reference."""
    batch = trainee.open_source(0).batch(0, 10)
    kept, trainee.generator = trainee.generator, torch.Generator().manual_seed(5)
    with trainee.autocast():
        losses = [trainee.loss(batch, trainee.random(batch, trainee.config), trainee.config, 0, 1)[0] for _ in range(8)]
    trainee.generator = kept
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize(("method", "rate", "steps"), [("lora", 3e-2, 16), ("full", 1e-3, 8)])
def test_it_learns_and_its_result_draws(method, rate, steps, base, pairs, tmp_path):
    run = tmp_path / "run"
    settings = begun(base, pairs, run, batch=10, steps=steps, method=method, lr=rate, beta=100.0)
    assert math.isclose(fixed_loss(open_learner(settings, run, lambda _: None)), math.log(2), rel_tol=1e-6)
    resume_prefer(Console(quiet=True), settings, run)
    assert fixed_loss(open_learner(settings, run, lambda _: None)) < math.log(2) - 0.005
    found = json.loads((run / "report" / "report.json").read_text())["figures"]
    assert found["drift from the reference"][1] > 0
    pipeline = open_result(run)
    assert pipeline(WORDS[0], num_inference_steps=1, height=16, width=16, output_type="np").images.shape[-1] == 3


def test_stopped_it_goes_on_to_the_same_bits(base, pairs, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = begun(base, pairs, whole, batch=4, steps=6, method="lora", lr=3e-3)
    trainee = open_learner(settings, whole, lambda _: None)
    trainee.config = override(trainee.config, "train.save_steps", 3)
    train_on(trainee, whole, [])
    shutil.copytree(whole, killed)
    shutil.rmtree(checkpoint_files.complete(killed)[-1])
    resume_prefer(Console(quiet=True), run_to_resume(killed, PreferSettings(), None), killed)
    a, b = (checkpoint_files.complete(run)[-1] for run in (whole, killed))
    assert a.name == b.name == "step-00000006"
    (file,) = (p.relative_to(a) for p in (a / "training").glob("*.safetensors"))
    a, b = read_tensors(a / file), read_tensors(b / file)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
