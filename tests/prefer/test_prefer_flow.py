"""`daybreak prefer --online` of flow-matching pipelines and of adapters: drawn as they draw, learnt, resumed."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from daybreak import checkpoint_files
from daybreak.commands.prefer import open_learner, resume_prefer
from daybreak.config import ConfigError, override
from daybreak.files import new_folder
from daybreak.finetune import settings as finetune_settings
from daybreak.finetune.bases import open_base
from daybreak.finetune.drawing import draw_numbered, guidance_of
from daybreak.finetune.families import family_of
from daybreak.finetune.flow_steps import flow_denoisers, own_times
from daybreak.finetune.process import process_of
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.formats.weights import read_tensors
from daybreak.prefer import panel
from daybreak.prefer.asked import check_prefer, run_to_resume
from daybreak.prefer.pipeline_opening import begin_pipeline
from daybreak.prefer.rollout import Path, roll_out
from daybreak.prefer.settings import PreferSettings
from daybreak.train.loop import train_on
from tests.finetune import tiny, tiny_today
from tests.prefer.test_prefer_online import Brightness

SAVE = {"sd3": tiny.save_sd3, "flux": tiny.save_flux, "prx": tiny.save_prx, "prx_pixel": tiny.save_prx_pixel}
SAVE |= tiny_today.SAVE
WORDS = ("a red circle", "a blue square", "a green triangle on white", "a big yellow dog", "the small square")


@pytest.fixture(autouse=True)
def brightness(monkeypatch):
    monkeypatch.setattr(panel, "open_judge", lambda *_: Brightness())


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return tiny.save_sd3(tmp_path_factory.mktemp("base") / "sd3")


@pytest.mark.parametrize("name", [*SAVE, "own"])
def test_without_noise_it_draws_what_the_pipeline_draws(name, demo_run, tmp_path):
    """Three of Euler's steps along its own times, guided as it guides, from the same noise."""
    base = demo_run if name == "own" else SAVE[name](tmp_path / name)
    settings = FinetuneSettings(
        base=str(base), sample_steps=3, guidance=4.0, method="lora" if name == "own" else "full"
    )
    pipeline = open_base(str(base))
    if name == "flux":  # as published: captions are padded to what the pipeline reads
        pipeline.tokenizer_2.model_max_length = 512
    family, process = family_of(pipeline, str(base)), process_of(pipeline, settings)
    side, prompts = family.resolution if name == "own" else 16, list(WORDS[:2])
    expected = draw_numbered(pipeline, prompts, settings, side, 0, [0, 1])
    row = family.rows(torch.zeros(1, 3, side, side))
    shape = (1, family.row_channels(row.shape[1]), *row.shape[2:])
    noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in (0, 1)])
    times = own_times(family, settings, side, 3)
    assert times[0] == 1 and times[-1] == 0 and len(times) == 4
    denoisers = flow_denoisers(family, process, guidance_of(pipeline, settings))
    path = Path(times, 1, 1, 0.0, process.noise_scale)
    x, *_ = roll_out(denoisers, prompts, 1, path, process.noise_scale * noise, torch.Generator())
    torch.testing.assert_close(family.decode(x), expected, atol=1e-4, rtol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def begun(base, run, prompts, **settings):
    """A run at step 0, which saves each step and draws its samples in one step."""
    told = {"judge": "clipscore", "online": True, "captions": str(prompts), "batch": 2, "pictures": 4, "draw_steps": 3}
    asked = check_prefer(PreferSettings(run=str(base), held_out=2, count=50, **told | settings), run)
    with new_folder(run) as building:
        building.mkdir()
        begin_pipeline(asked, building, lambda _: None)
    drawn = replace(finetune_settings.load(run), sample_steps=2, sample_every=100, precision="float32")
    finetune_settings.save(drawn, run)
    return asked


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    path.write_text("\n".join(f"{word} {n}" for n in (1, 2) for word in WORDS))
    return path


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_first_update_s_ratio_is_1_and_a_later_one_s_is_not(method, sd3, prompts, tmp_path):
    asked = begun(sd3, tmp_path / "run", prompts, method=method, kl=0.5)
    trainee = open_learner(asked, tmp_path / "run", lambda _: None)
    assert trainee.pictures_at_end() == (0, 4)
    batch = trainee.open_source(0).batch(0, 2)
    turn = trainee.random(batch, trainee.config)
    assert turn.rollout.states.shape == (2, 4, 3, 4, 8, 8) and turn.rollout.rewards.std() > 0
    loss, terms = trainee.loss(batch, turn, trainee.config, 0.0, 1.0)
    assert abs(loss.item()) < 1e-4 and terms["kl"] < 1e-10 and terms["clipped"] == 0
    loss.backward()
    assert max(float(p.grad.abs().max()) for p in trainee.named_parameters().values() if p.grad is not None) > 0
    with torch.no_grad():
        for p in trainee.named_parameters().values():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    trainee.step = 1
    again = trainee.random(batch, trainee.config)
    assert again.rollout is turn.rollout and again.step == 1  # the second stochastic step of the same pictures
    _, terms = trainee.loss(batch, again, trainee.config, 0.0, 1.0)
    assert terms["kl"] > 1e-8 and terms["clipped"] > 0


@pytest.mark.parametrize(("name", "method", "rate", "steps"), [("sd3", "full", 0.01, 10), ("own", "lora", 0.02, 10)])
def test_a_judge_is_won_over_and_a_stopped_run_goes_on_to_the_same_bits(
    name, method, rate, steps, sd3, demo_run, prompts, tmp_path
):
    """Stopped after the first of the two updates of a rollout, which the checkpoint holds."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    base, more = (sd3, {"captions": str(prompts)}) if name == "sd3" else (demo_run, {"captions": None})
    asked = begun(base, whole, prompts, method=method, lr=rate, steps=steps, kl=0.0, batch=4, **more)
    trainee = open_learner(asked, whole, lambda _: None)
    trainee.config = override(override(trainee.config, "train.save_steps", steps - 3), "train.keep", 9)
    train_on(trainee, whole, [])
    shutil.copytree(whole, stopped)
    shutil.rmtree(checkpoint_files.complete(stopped)[-1])
    train_on(open_learner(run_to_resume(stopped, PreferSettings(), None), stopped, lambda _: None), stopped, [], True)
    resume_prefer(Console(quiet=True), asked, whole)  # which has its report still to make
    a, b = (checkpoint_files.complete(run)[-1] for run in (whole, stopped))
    assert a.name == b.name == f"step-{steps:08d}"
    (file,) = (p.relative_to(a) for p in (a / "training").glob("*.safetensors"))
    a, b = read_tensors(a / file), read_tensors(b / file)
    assert "rollout.states" in a and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    found = json.loads((whole / "report" / "report.json").read_text())["figures"]
    before, after = found["judge clipscore, held-out prompts"]
    assert after > before + 0.5  # of 255: brighter, on prompts that it did not learn from
    assert ("scenes: Fréchet distance" in found) == ("scenes: number" in found) == (name == "own")
    assert open_result(whole) is not None


def test_a_base_that_predicts_noise_is_refused_in_a_line(prompts, tmp_path):
    base, run = tiny.save_sd(tmp_path / "sd"), tmp_path / "run"
    with pytest.raises(ConfigError, match="--online is for flow matching, and .*sd predicts noise or v: without it"):
        begun(base, run, prompts, method="lora")
    assert not run.exists()
