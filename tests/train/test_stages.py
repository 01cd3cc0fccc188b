"""Stages, the whole stack, and averages whose length is chosen after the run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from daybreak import config as configs
from daybreak.cli import app
from daybreak.commands.average import run_average
from daybreak.config import ConfigError, StageConfig, at_stage, check, override, stage_at
from daybreak.evaluate.checks import config_of
from daybreak.evaluate.request import Drawing
from daybreak.formats.open import open_model
from daybreak.formats.run import load_averaged
from daybreak.recipes import recipe
from daybreak.run_folder import load_run_config
from daybreak.serve.native import NativeModel
from daybreak.serve.settings import ServeSettings
from daybreak.subjects import open_subject
from daybreak.train import checkpoint, phema
from daybreak.train.ema import update_average
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.train.test_run import stop_after


def staged(**changes):
    """Two stages, every part on: 32 px with alignment, then 48 px without."""
    config = tiny_config(
        model__depth=4, routing__keep=0.5, routing__start=1, alignment__weight=0.5, alignment__layer=2,
        alignment__projector_width=32, perceptual__lpips=0.1, perceptual__dino=0.01, train__steps=8,
        train__sample_every=1.0, evaluate__grid_prompts="a red circle,a blue square", **changes,
    )  # fmt: skip
    stages = (StageConfig(share=0.75), StageConfig(share=0.25, resolution=48, batch=4, alignment=0.0, shift=4.0))
    return check(replace(config, stages=stages))


def log_of(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "step"]


@pytest.fixture(scope="module")
def staged_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("staged") / "run"
    return train(staged(train__posthoc_ema="0.05,0.1", train__posthoc_snapshots=8), run, []), run


def test_each_stage_trains_at_its_size_with_its_losses(staged_run):
    _, run = staged_run
    steps = log_of(run)
    assert [s["images"] for s in steps] == [8, 16, 24, 32, 40, 48, 52, 56]
    assert set(steps[0]["terms"]) == {"velocity", "alignment", "lpips", "dino"}
    assert set(steps[-1]["terms"]) == {"velocity", "lpips", "dino"}
    assert all(np.isfinite(s["loss"]) and s["loss"] > 0 for s in steps)
    first = steps[0]
    total = first["terms"]["velocity"] + 0.5 * first["terms"]["alignment"]
    total += 0.1 * first["terms"]["lpips"] + 0.01 * first["terms"]["dino"]
    assert first["loss"] == pytest.approx(total, rel=1e-5)


def test_a_run_that_stops_in_either_stage_goes_on_to_the_same_weights(staged_run, tmp_path):
    whole, _ = staged_run
    config = staged(train__posthoc_ema="0.05,0.1", train__posthoc_snapshots=8)
    for steps in (3, 7):
        stop_after(tmp_path / str(steps), config, steps)
        resumed = train(config, tmp_path / str(steps), [], resume=True)
        for name, module in whole.trained_modules().items():
            other = resumed.trained_modules()[name].state_dict()
            assert all(torch.equal(v, other[k]) for k, v in module.state_dict().items()), name
        for length, tensors in whole.power_averages.tensors.items():
            assert all(torch.equal(v, resumed.power_averages.tensors[length][k]) for k, v in tensors.items())


def test_a_staged_run_draws_with_its_last_stage(staged_run):
    _, run = staged_run
    assert load_run_config(run).data.resolution == 48
    assert load_run_config(run).diffusion.shift == 4.0
    assert len(load_run_config(run, last_stage=False).stages) == 2


def test_stages_by_progress():
    config = staged()
    assert [stage_at(config, p) for p in (0, 0.74, 0.75, 1.0)] == [0, 0, 1, 1]
    assert at_stage(config, 0).train.batch == 8 and at_stage(config, -1).train.batch == 4
    assert stage_at(tiny_config(), 0.9) == 0 and at_stage(tiny_config(), -1) == tiny_config()


def test_stages_are_set_by_name_and_by_file(tmp_path):
    config = override(staged(), "stages.1.resolution", "96")
    assert config.stages[1].resolution == 96
    configs.save(config, tmp_path / "c.yaml")
    assert configs.load(tmp_path / "c.yaml") == config
    with pytest.raises(ConfigError, match="did you mean stages.1.resolution"):
        override(config, "stages.1.resolutoin", "96")
    with pytest.raises(ConfigError, match="unknown setting stages.2"):
        override(config, "stages.2.resolution", "96")
    with pytest.raises(ConfigError, match="shares of the stages add up to 1.15"):
        check(override(config, "stages.1.share", "0.4"))
    with pytest.raises(ConfigError, match="stage 1: data.resolution 62 does not divide"):
        check(override(config, "stages.1.resolution", "62"))


def test_a_published_average_is_updated_every_so_many_steps():
    config = tiny_config(train__steps=7, train__ema_every=3, train__ema=0.5)
    module, average = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    update_average(average, module, 0.0, 100)
    assert torch.equal(average.weight, module.weight)  # a decay of 0 is the weights themselves
    assert check(config).train.ema_every == 3


def test_power_function_averages_have_their_lengths():
    """The relative standard deviation of a profile's times is its length (EDM2, eq. 116)."""
    for length in (0.05, 0.1, 0.2):
        gamma = phema.gamma_of(length)
        times = np.linspace(1e-6, 1, 200_001)
        profile = times**gamma
        profile /= profile.sum()
        mean = (profile * times).sum()
        assert np.sqrt((profile * (times - mean) ** 2).sum()) == pytest.approx(length, rel=1e-3)


def test_inner_products_are_the_integrals():
    times = np.linspace(1e-9, 3, 300_001)

    def profile(end, gamma):
        return np.where(times <= end, (gamma + 1) / end * (times / end) ** gamma, 0)

    for a, b in (((2.0, 3.0), (3.0, 8.0)), ((3.0, 2.0), (1.5, 5.0)), ((2.0, 4.0), (2.0, 4.0))):
        expected = np.trapezoid(profile(*a) * profile(*b), times)
        got = phema.inner_product(*(np.asarray(v) for v in (a[0], a[1], b[0], b[1])))
        assert float(got) == pytest.approx(expected, rel=1e-3)


def test_an_average_of_another_length_is_had_from_snapshots(tmp_path):
    """Against the same average kept during the run, on weights that wander."""
    g = torch.Generator().manual_seed(0)
    network = torch.nn.Linear(20, 20, bias=False)
    kept = phema.PowerAverages((0.05, 0.1), phema.named_tensors({"transformer": network}))
    wanted = phema.PowerAverages((0.07,), phema.named_tensors({"transformer": network}))
    for step in range(512):
        with torch.no_grad():
            network.weight.add_(torch.randn(network.weight.shape, generator=g) * 0.1)
        for averages in (kept, wanted):
            averages.update({"transformer": network}, step)
        if (step + 1) % 32 == 0:
            kept.snapshot(tmp_path, step + 1)
    got = phema.reconstruct(tmp_path, 0.07)["transformer.weight"]
    true = wanted.tensors[0.07]["transformer.weight"]
    near = kept.tensors[0.05]["transformer.weight"]
    assert (got - true).norm() < 0.1 * (near - true).norm()


def test_the_average_command_writes_a_run_that_loads(staged_run, tmp_path):
    from rich.console import Console

    _, run = staged_run
    assert len(list((run / "averages").glob("*.safetensors"))) == 16
    run_average(Console(quiet=True), run, 0.08, tmp_path / "averaged")
    config = load_run_config(tmp_path / "averaged")
    transformer, _ = load_averaged(tmp_path / "averaged", config, torch.device("cpu"))
    plain = load_file(checkpoint.newest(run) / "transformer.safetensors")
    changed = [k for k, v in transformer.state_dict().items() if not torch.allclose(v, plain[k], atol=1e-6)]
    assert changed and all(torch.isfinite(v).all() for v in transformer.state_dict().values())
    asked = CliRunner().invoke(app, ["average", str(run), "--length", "0.5", "--out", str(tmp_path / "other")])
    assert str(asked.exception) == "--length is 0.5; it must be between 0.01 and 0.25"
    with pytest.raises(ConfigError, match="is not empty"):
        run_average(Console(quiet=True), run, 0.1, tmp_path / "averaged")


WRONG = [
    ({"routing.keep": 0.5, "routing.start": 3, "routing.end": 2}, "the start must come before the end"),
    ({"routing.keep": 0.5, "routing.end": 9}, "not after the last block"),
    ({"routing.keep": 0}, "routing.keep is 0"),
    ({"routing.path_drop": 0.1}, "routing.path_drop is SPRINT's"),
    ({"alignment.weight": 0.5, "alignment.layer": 9}, "the model has blocks 1 to 4"),
    ({"alignment.weight": 0.5, "alignment.layer": 2, "alignment.projector": "conv", "routing.keep": 0.5,
      "routing.start": 1}, "needs all tokens.*at most 1"),
    ({"perceptual.lpips": 0.1, "model.predicts": "velocity"}, "set model.predicts=x0"),
    ({"perceptual.dino": -1}, "perceptual.dino is -1"),
    ({"model.layout": "joint", "model.modulation": "none", "model.pooled_text": True}, "set model.modulation=block"),
    ({"sample.guidance_kind": "routed"}, "set routing.keep below 1"),
    ({"train.posthoc_ema": "0.6"}, "between 0.01 and 0.25"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_does_not_go_together_is_refused(changes, message):
    config = tiny_config(model__depth=4)
    for key, value in changes.items():
        config = override(config, key, value)
    with pytest.raises(ConfigError, match=message):
        check(config)


@pytest.mark.parametrize("name", ["scenes+sprint", "scenes+irepa", "scenes+normuon+polar-express+turns", "scenes+adamw",
                                  "scenes+text-blocks+contrastive", "scenes+velocity+shared-adaln"])  # fmt: skip
def test_every_variant_trains_and_draws(name, tmp_path):
    config = recipe(name)
    small = {"train.minutes": None, "train.steps": 3, "train.batch": 4, "train.sample_every": 1.0, "model.width": 32,
             "model.heads": 2, "text.width": 32, "sample.steps": 2, "alignment.projector_width": 32}  # fmt: skip
    for key, value in small.items():
        config = override(config, key, value)
    state = train(config, tmp_path / "run", [])
    assert state.step == 3
    assert all(torch.isfinite(p).all() for p in state.parameters())
    assert next((tmp_path / "run" / "samples").glob("*.png")).stat().st_size > 1000


def test_whoever_opens_it_draws_with_the_last_stages_settings(staged_run):
    _, run = staged_run
    cpu = torch.device("cpu")
    assert open_model(run, cpu)[2].data.resolution == 48
    assert open_subject(str(run), Drawing(), cpu).config.data.resolution == 48
    assert config_of(run, "run", Drawing()).data.resolution == 48
    assert NativeModel("staged", run, ServeSettings(), cpu).info.size == 48
