"""Two and four processes train as one does: the same losses, weights that fit any number of ranks, a lost rank."""

import os
import shutil
import signal
import subprocess

import pytest
import torch
from ranks import command, environment, events, losses, trained
from safetensors.torch import load_file
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.train import checkpoint
from tests.program import children
from tests.waiting import LONG, wait_until

STEPS = 8
TOLERANCE = 2e-4
"""Relative: float32 sums in another order, through eight steps."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone") / "run", 1, train__steps=STEPS)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two ranks that save at every step."""
    folder = tmp_path_factory.mktemp("two")
    return trained(
        folder / "run", 2, train__steps=STEPS, train__save_minutes=1e-6, train__keep=10, train__watch_every=4
    )


def average_of(run):
    return load_file(checkpoint.newest(run) / "transformer.safetensors")


def near(a, b):
    """Relative difference of two sets of weights."""
    total = sum((a[k] - b[k]).square().sum() for k in a) ** 0.5
    return float(total / sum(v.square().sum() for v in a.values()) ** 0.5)


def test_two_ranks_have_the_losses_and_the_weights_of_one(alone, two):
    assert losses(two) == pytest.approx(losses(alone), rel=TOLERANCE)
    assert near(average_of(alone), average_of(two)) < TOLERANCE
    assert [e["gradient_norm"] for e in events(two)] == pytest.approx(
        [e["gradient_norm"] for e in events(alone)], rel=10 * TOLERANCE
    )
    assert (two / "score.json").exists() and (two / "grid.png").exists()
    shards = list((checkpoint.newest(two) / "training").glob("*.safetensors"))
    assert len(shards) == 2
    watched = events(two)[3]["measured"]
    assert watched["update/transformer_blocks"] > 0 and watched["gradient_norm/text_encoder"] > 0


@pytest.mark.slow
def test_four_ranks_with_micro_batches_and_copied_shards_do_too(alone, tmp_path):
    """HSDP of 2 x 2, one picture at a time."""
    four = trained(tmp_path / "run", 4, train__steps=STEPS, train__shard=2, train__microbatch=1)
    assert losses(four) == pytest.approx(losses(alone), rel=TOLERANCE)
    assert near(average_of(alone), average_of(four)) < TOLERANCE


@pytest.mark.parametrize("processes", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_of_two_ranks_goes_on_with_another_number(two, alone, tmp_path, processes):
    run = tmp_path / "run"
    shutil.copytree(two, run)
    for folder in checkpoint.complete(run)[4:]:  # of steps 1, 2, ...: goes back to step 4
        shutil.rmtree(folder)
    trained(run, processes, "--resume=auto", train__steps=STEPS)
    assert len(losses(run)) == STEPS
    assert losses(run)[:4] == losses(two)[:4]
    assert losses(run) == pytest.approx(losses(alone), rel=TOLERANCE)
    assert near(average_of(alone), average_of(run)) < TOLERANCE


@pytest.mark.slow
def test_muon_on_shards_is_muon(tmp_path):
    """NorMuon too: its row means are sharded with the rows. Half of the matrices move at each step."""
    muon = {"optim__matrices": "normuon", "optim__muon_every": 2}
    one = trained(tmp_path / "one", 1, train__steps=4, **muon)
    three = trained(tmp_path / "three", 2, train__steps=4, **muon)
    assert near(average_of(one), average_of(three)) < TOLERANCE


def test_a_dead_rank_is_restarted_from_the_last_checkpoint(alone, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(run, 2, "--resume=auto", restarts=2, train__steps=STEPS, train__save_minutes=1e-6),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: checkpoint.complete(run) or process.poll() is not None, "a first checkpoint")
    ranks = children(process.pid)
    assert len(ranks) == 2
    os.kill(ranks[-1], signal.SIGKILL)
    output, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0, output[-3000:]
    assert losses(run) == pytest.approx(losses(alone), rel=TOLERANCE)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--train.batch=9", "train.batch 9 does not divide over 2 processes; 8 would"),
        ("--train.shard=3", "train.shard 3 does not divide 2 processes"),
    ],
)
def test_what_does_not_divide_is_refused(tmp_path, monkeypatch, setting, message):
    """Before the processes join, so that one of them is enough to see it."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(app, ["train", "scenes", "--out", str(tmp_path / "run"), setting])
    assert isinstance(result.exception, ConfigError) and str(result.exception) == message
    assert not torch.distributed.is_initialized()
