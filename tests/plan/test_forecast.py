"""The forecast: more GPUs, more speed and less memory each; what a run measured is gone by."""

import dataclasses

import pytest
import torch
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import AlignmentConfig, Config, ConfigError, PerceptualConfig, TextConfig
from daybreak.plan.account import account
from daybreak.plan.forecast import Pace, forecast, machines, measured_pace
from daybreak.plan.memory import saved_bytes
from daybreak.recipes import recipe
from tests.conftest import tiny_config


def speedrun_transformer() -> Config:
    """The speedrun's transformer without its large frozen networks, which take seconds to count."""
    c = dataclasses.replace(recipe("speedrun"), stages=(), text=TextConfig(max_tokens=256))
    return dataclasses.replace(c, alignment=AlignmentConfig(), perceptual=PerceptualConfig())


def test_from_8_to_4096_gpus():
    config = speedrun_transformer()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch=8192))
    speeds, talk = [], []
    for gpus in (8, 64, 512, 4096):
        (stage,) = forecast(config, machines("h200", gpus, None, None), 256)
        speeds.append(stage.images_per_second)
        talk.append(stage.talk / stage.step)
    assert speeds == sorted(speeds) and talk == sorted(talk)
    assert 7 < speeds[1] / speeds[0] <= 8  # near to linear where the share of each is large
    assert speeds[3] / speeds[2] < 6  # two pictures each: communication rules


def test_sharding_saves_memory_and_recomputation_too():
    config = speedrun_transformer()
    one, eight = (forecast(config, machines("h200", n, None, None), 256)[0].memory for n in (1, 8))
    trained = 1.178e9
    assert one.states == pytest.approx((4 + 4 + 4 + 4) * trained, rel=0.1)  # most are Muon's: one momentum
    assert eight.states == pytest.approx(one.states / 8)
    lean = dataclasses.replace(config, model=dataclasses.replace(config.model, recompute=True))
    assert forecast(lean, machines("h200", 8, None, None), 256)[0].memory.each < 0.7 * eight.each
    assert eight.largest(141e9) > 4 * eight.largest(30e9) > 0


def test_what_the_backward_pass_keeps_is_counted(monkeypatch):
    """Against what autograd really saves on the CPU, in float32: twice as many bytes. As on a GPU, without the kernels
    for a CPU, which keep less.
    """
    monkeypatch.setattr("daybreak.cpu.kernels.TYPES", {})
    from daybreak.encoders.text import TextTokens
    from daybreak.model.transformer import Transformer

    config = tiny_config()
    with torch.device("meta"):
        meta = Transformer(config.model, 32, config.routing)
    network = Transformer(config.model, 32, config.routing)
    own, seen, total = {p.data_ptr() for p in network.parameters()}, {}, 0

    def pack(t):
        if t.untyped_storage().data_ptr() not in own:
            seen[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        text = TextTokens(torch.zeros(1, 9, 32, requires_grad=True), torch.ones(1, 9, dtype=torch.bool), padded=False)
        network(torch.zeros(1, 3, 32, 32), torch.zeros(1), text)
    total = sum(t.untyped_storage().nbytes() for t in seen.values())
    assert saved_bytes(meta, config, 32, 9) == pytest.approx(total / 2, rel=0.1)


def test_a_measured_run_is_gone_by(tmp_path):
    from daybreak.train.loop import train

    settings = {"train__steps": 12, "train__watch_every": 3, "train__sample_every": 1.0, "sample__steps": 2}
    train(tiny_config(**settings), tmp_path / "run", [])
    pace = measured_pace(tmp_path / "run")
    assert pace.efficiency == 1 and pace.lost > 0  # so small a model spends most of its time beside the products
    on = machines("cpu", 1, None, tmp_path / "run")
    assert on.pace == pace and "measured by" in on.source
    (stage,) = forecast(tiny_config(), on, 20)
    (plan,) = account(tiny_config(), 20)
    assert stage.images_per_second <= on.flops / (plan.training + pace.lost * plan.values)
    train(tiny_config(train__steps=2), tmp_path / "short", [])
    with pytest.raises(ConfigError, match="it measured nothing"):
        measured_pace(tmp_path / "short")


def test_the_command_tells_speed_memory_time_and_cost():
    words = ["plan", "speedrun", "--gpus", "32", "--gpu", "h200", "--price", "2.0", "--deadline", "24h"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "All stages: 24.00 hours, 1,536.00 USD" in result.output
    assert "an estimate: nothing has been measured" in result.output
    assert "largest batch" in result.output
    result = CliRunner().invoke(app, ["plan", "scenes", *words[2:4], "--budget", "768usd", *words[6:8]])
    assert "All stages: 12.00 hours, 768.00 USD" in result.output
    result = CliRunner().invoke(app, ["plan", "scenes", "--gpu", "l40s"], env={"COLUMNS": "200"})
    assert "1 x" in result.output and "l40s" in result.output.lower()  # what is said of the machine is heard
    result = CliRunner().invoke(app, ["plan", "scenes", "--gpus", "1", "--gpu", "h20"])
    assert isinstance(result.exception, ConfigError) and "did you mean h200" in str(result.exception)


def test_a_pace_gives_its_own_measurement_back():
    for spent in (3e9, 0.5e9):
        assert Pace.measured(1e9, 2e6, spent).flops(1e9, 2e6) == pytest.approx(spent)
    # Twice the width: four times the products, twice the values beside them.
    pace = Pace.measured(1e9, 2e6, 2e9)
    assert pace.flops(4e9, 4e6) == pytest.approx(6e9)
