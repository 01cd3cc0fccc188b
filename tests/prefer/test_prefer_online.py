"""`daybreak prefer --online` with tiny models: rollouts, the loss, a judge won over, a killed run gone on with."""

import json
import shutil

import pytest
import torch
from rich.console import Console

from daybreak import checkpoint_files
from daybreak.commands.prefer import resume_prefer
from daybreak.config import ConfigError, load, override, save
from daybreak.diffusion.times import sampling_times
from daybreak.files import new_folder
from daybreak.formats.run import load_averaged
from daybreak.formats.weights import read_tensors
from daybreak.losses.grpo import group_advantages
from daybreak.prefer import opening, panel
from daybreak.prefer.asked import check_prefer, run_to_resume
from daybreak.prefer.online import denoisers_of
from daybreak.prefer.own import preferring_config
from daybreak.prefer.rollout import Path, roll_out
from daybreak.prefer.settings import PreferSettings
from daybreak.run_folder import load_run_config
from daybreak.sampling.sampler import euler
from daybreak.sampling.stochastic import gaussian_step

TINY = {"online": True, "batch": 2, "pictures": 4, "draw_steps": 4, "held_out": 4, "count": 50}


READ = ("text_embedding", "text_convolutions", "pooled_embedding", "grounding")


class Brightness:
    """Prefers bright pictures, whatever the prompt."""

    prompts = None

    def scores(self, images, prompts):
        assert images.dtype == torch.uint8 and len(images) == len(prompts)
        return images.float().mean(dim=(1, 2, 3)).tolist()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(panel, "open_judge", lambda *_: Brightness())


def begun(run, demo_run, **settings):
    """A run at step 0 that saves often and is scored by few prompts."""
    asked = check_prefer(PreferSettings(run=str(demo_run), judge="clipscore", **TINY | settings), run)
    with new_folder(run) as building:
        building.mkdir()
        opening.begin_own(asked, building, lambda _: None)
    config = load(run / "config.yaml")
    changes = {
        "train.save_steps": 5, "train.keep": 9, "train.sample_every": 1.0, "evaluate.prompts_per_task": 1,
        "evaluate.grid_prompts": ("a red circle",),
    }  # fmt: skip
    for name, value in changes.items():
        config = override(config, name, value)
    save(config, run / "config.yaml")
    return asked


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_rollout_s_steps_are_those_it_says(demo_run, guidance):
    config = load_run_config(demo_run)
    networks = load_averaged(demo_run, config, torch.device("cpu"))
    of, captions = denoisers_of(*networks, guidance, config), ["a red circle", "two blue squares"]
    noise = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    path = Path(sampling_times(5, 2.0), 1, 2, 0.7, 1.0)
    pictures, states, log_prob = roll_out(of, captions, 3, path, noise, torch.Generator().manual_seed(1))
    assert pictures.shape == (6, 3, 32, 32) and states.shape == (6, 3, 3, 32, 32) and log_prob.shape == (6, 2)
    each = of([c for c in captions for _ in range(3)])
    begin = noise.repeat_interleave(3, dim=0)
    with torch.no_grad():
        torch.testing.assert_close(states[:, 0], euler(each, begin, path.times[:2]), atol=1e-5, rtol=1e-5)
        assert torch.equal(states[0, 0], states[2, 0]) and not torch.equal(states[0, 1], states[2, 1])
        for k in range(2):
            now, then = (path.times[1 + k + i].expand(6) for i in (0, 1))
            step = gaussian_step(each, states[:, k], now, then, 0.7, 1.0)
            torch.testing.assert_close(log_prob[:, k], step.log_prob(states[:, k + 1]), atol=1e-5, rtol=1e-5)
            # Of 3,072 numbers: as far from the mean as its own standard deviation.
            apart = (states[:, k + 1] - step.mean).square().mean(dim=(1, 2, 3)).sqrt() / step.std
            assert (apart - 1).abs().max() < 0.1
        torch.testing.assert_close(pictures, euler(each, states[:, 2], path.times[3:]), atol=1e-5, rtol=1e-5)


def test_the_first_update_is_the_policy_s_gradient_and_the_reference_holds_the_next_ones(demo_run, tmp_path):
    """The ratio is 1 at first, so the loss is minus the mean advantage, 0, and its gradient that of A log p."""
    asked = begun(tmp_path / "run", demo_run, kl=0.5, clip=0.2)
    trainee = opening.open_own(asked, tmp_path / "run", lambda _: None)
    config = trainee.config
    batch = trainee.open_source(0).batch(0, 2)
    turn = trainee.random(batch, config)
    rewards = turn.rollout.rewards
    torch.testing.assert_close(turn.rollout.advantages, group_advantages(rewards), rtol=1e-4, atol=1e-4)
    loss, terms = trainee.loss(batch, turn, config, 0.0, 1.0)
    assert abs(loss.item()) < 1e-4 and terms["kl"] < 1e-10 and terms["clipped"] == 0
    loss.backward()
    found = trainee.transformer.text_embedding.weight.grad.clone()
    trainee.transformer.zero_grad()
    # The same by hand, a prompt at a time.
    denoisers = denoisers_of(trainee.transformer, trainee.text_encoder, config.sample.guidance, config)
    weighted = torch.zeros(())
    for p, caption in enumerate(batch.captions):
        now, then = (t.expand(4) for t in turn.rollout.times[:2])
        states = turn.rollout.states[p]
        step = gaussian_step(denoisers([caption] * 4), states[:, 0], now, then, asked.noise, 1.0)
        normal = torch.distributions.Normal(step.mean, step.std.view(4, 1, 1, 1))
        weighted = (
            weighted - (normal.log_prob(states[:, 1]).mean(dim=(1, 2, 3)) * turn.rollout.advantages[p]).mean() / 2
        )
    weighted.backward()
    torch.testing.assert_close(found, trainee.transformer.text_embedding.weight.grad, rtol=1e-3, atol=1e-7)
    assert found.abs().max() > 0
    with torch.no_grad():
        trainee.transformer.text_embedding.weight.add_(0.01)
    trainee.step = 1
    again = trainee.random(batch, config)
    assert again.rollout is turn.rollout and again.step == 1  # the second stochastic step of the same pictures
    _, terms = trainee.loss(batch, again, config, 0.0, 1.0)
    assert terms["kl"] > 1e-8
    part, _ = trainee.loss(batch.rows(slice(1, 2)), again.rows(slice(1, 2)), config, 0.0, 0.5)
    assert torch.isfinite(part)


def test_a_judge_is_won_over_and_a_killed_run_goes_on_to_the_same_bits(demo_run, tmp_path):
    """Killed after step 5: the second of the two updates of a rollout, which the checkpoint holds, comes next."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    asked = begun(whole, demo_run, steps=8, lr=0.02, kl=0.0, batch=4, method="text")
    resume_prefer(Console(quiet=True), asked, whole)
    shutil.copytree(whole, killed)
    for folder in checkpoint_files.complete(killed):
        if folder.name > "step-00000005":
            shutil.rmtree(folder)
    resume_prefer(Console(quiet=True), run_to_resume(killed, PreferSettings(), None), killed)
    last = [checkpoint_files.complete(run)[-1] for run in (whole, killed)]
    assert [f.name for f in last] == ["step-00000008"] * 2
    for part in ("transformer.safetensors", "training/shard-00001-model-00001-of-00001.safetensors"):
        a, b = (read_tensors(folder / part) for folder in last)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert "rollout.states" in a
    trained, reference = (read_tensors(f / "transformer.safetensors") for f in (last[0], whole / "reference"))
    changed = {
        k.split(".")[0 if "blocks" not in k else -2] for k in trained if not torch.equal(trained[k], reference[k])
    }
    assert {"text_embedding", "text_kv"} <= changed <= {*READ, "text_kv", "norm_text_k"}, changed
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    told = [e["values"] for e in lines if e["event"] == "probe"]
    assert told[-1]["judge"] > told[0]["judge"] + 3  # of 255: brighter, on prompts that it did not learn from


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"online": True, "votes": "x", "judge": None}, "--online learns from a judge: say which, --judge scenes"),
        ({"online": True, "rounds": 3}, "--rounds has no effect with --online"),
        ({"online": True, "stochastic": 9}, "--stochastic 9: --draw-steps 8 has fewer steps"),
        ({"noise": 0.5}, "--noise has no effect without --online"),
        ({"draw_steps": 4}, "--draw-steps has no effect without --online"),
    ],
)
def test_what_does_not_go_together_is_one_line(settings, said):
    with pytest.raises(ConfigError, match=said):
        PreferSettings(**{"run": "runs/mine", "judge": "scenes"} | settings)


def test_guidance_by_routing_is_refused_unless_another_is_given(demo_run):
    routed = override(load_run_config(demo_run), "sample.guidance_kind", "routed")
    with pytest.raises(ConfigError, match="draws with routed guidance, and --online learns with guidance by text"):
        preferring_config(routed, PreferSettings(run=str(demo_run), judge="scenes", online=True))
