"""Ablations: real runs of tiny models in processes of their own, and the statistics over their figures."""

import csv
import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from daybreak.ablate import plan as plans
from daybreak.ablate import statistics
from daybreak.commands.ablate import run_ablate
from daybreak.config import ConfigError
from tests.program import children
from tests.waiting import LONG, wait_until

TINY = [
    "--model.width", "64", "--model.depth", "2", "--model.heads", "2", "--text.width", "32", "--text.heads", "2",
    "--text.depth", "1", "--train.batch", "8", "--sample.steps", "2", "--evaluate.prompts_per_task", "1",
    "--evaluate.held_out_prompts", "2", "--train.sample_every", "1", "--data.dense", "0",
]  # fmt: skip
RECIPES = ["scenes-demo", "scenes-demo+no-grounding"]


def ablate(words, out, seeds=1, minutes=None, steps=4, charge=None, recipes=RECIPES):
    run_ablate(Console(file=sys.stderr), [*recipes, *TINY, *words], seeds, minutes, steps, out, 8, charge)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("ablate") / "out"
    ablate([], out)
    return out


def test_every_recipe_is_measured(done):
    results = json.loads((done / "results.json").read_text())
    rows = list(csv.DictReader((done / "table.csv").open()))
    assert (done / "ablation.png").stat().st_size > 10_000
    table = (done / "table.md").read_text()
    assert "4 steps each, 1 seed" in table and "| scenes-demo+no-grounding |" in table
    assert len(rows) >= 2 and results
    measured = [json.loads((plans.run_folder(done, r, 0) / "measures.json").read_text()) for r in RECIPES]
    assert all(m["steps"] == 4 and m["images"] == 32 and m["frechet"] > 0 and 0 <= m["overall"] <= 1 for m in measured)
    assert measured[0]["loss"] != measured[1]["loss"]
    last = json.loads((plans.run_folder(done, RECIPES[0], 0) / "log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "score" and last["values"]["frechet"] == measured[0]["frechet"]


def test_the_same_command_goes_on_with_what_is_missing(done):
    kept = plans.run_folder(done, RECIPES[0], 0) / "measures.json"
    lost = plans.run_folder(done, RECIPES[1], 0) / "measures.json"
    before, figures = kept.stat().st_mtime_ns, json.loads(lost.read_text())
    lost.unlink()
    ablate([], done)
    assert kept.stat().st_mtime_ns == before
    again = json.loads(lost.read_text())
    assert again["loss"] == figures["loss"] and again["frechet"] == figures["frechet"]
    with pytest.raises(ConfigError, match="holds an ablation with steps 4, now it is 5"):
        ablate([], done, steps=5)


@pytest.mark.slow
def test_a_killed_run_is_told_in_the_table_and_an_interrupt_saves_the_next(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "daybreak", "ablate", *RECIPES, *TINY, "--seeds", "1", "--steps", "100000"]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--pictures", "8"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first, second = (plans.run_folder(out, recipe, 0) for recipe in RECIPES)
    try:
        wait_until(lambda: has_begun(first))
        (run,) = children(process.pid)
        os.kill(run, signal.SIGKILL)
        wait_until(lambda: has_begun(second))
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) != 0
    finally:
        process.kill()
    assert (out / "table.md").read_text().count("killed by SIGKILL") == 1
    assert list((second / "checkpoints").glob("step-*"))
    assert not (second / "measures.json").exists()


def has_begun(run):
    log = run / "log.jsonl"
    return log.exists() and log.read_text().count("\n") > 3


def test_means_spreads_and_differences():
    one, other = statistics.figure([1.0, 2.0, 3.0]), statistics.figure([4.0, 4.5, 5.0])
    assert (one.mean, one.spread) == (2.0, 1.0) and other.spread == 0.5
    apart = statistics.difference(other, one)
    assert apart.value == 2.5 and apart.within_spread is False
    assert statistics.difference(statistics.figure([3.0, 1.0]), one).within_spread
    assert statistics.difference(statistics.figure([3.0]), one).within_spread is None


def test_teachers_are_charged_at_equal_time_alone():
    plan = plans.make(["scenes", "scenes+repa"], 1, 2.0, None, [], 30.0, 10)
    assert plan.config("scenes", 0).train.minutes == 2.0
    assert math.isclose(plan.config("scenes+repa", 0).train.minutes, 1.5)
    plan = plans.make(["scenes", "scenes+repa"], 1, None, 50, [], None, 10)
    assert plan.config("scenes+repa", 0).train.steps == 50
    known = plans.make(["scenes+repa"], 1, 10.0, None, [], None, 10).charge
    assert known > 10  # what the teacher's file says of its own training


def test_a_teacher_of_ones_own_is_charged_what_its_file_says(tmp_path):
    for name, said in (("told", {"training_seconds": "45.0"}), ("silent", {})):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors", said)
    told, silent = (("alignment.teacher", str(tmp_path / f"{n}.safetensors")) for n in ("told", "silent"))
    plan = plans.make(["scenes", "scenes+repa"], 1, 2.0, None, [told], None, 10)
    assert plan.config("scenes", 0).train.minutes == 2.0
    assert math.isclose(plan.config("scenes+repa", 0).train.minutes, 1.25)
    with pytest.raises(ConfigError, match="silent.safetensors does not say how long"):
        plans.make(["scenes+repa"], 1, 2.0, None, [silent], None, 10)
    with pytest.raises(ConfigError, match=r"took \d+ s and \d+ s, and all are charged the same"):
        plans.make(["scenes+repa", "scenes+dino"], 1, 9.0, None, [told], None, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1, 1.0, None, [], None, 8), "say what to compare"),
        ((["scenes"], 1, None, None, [], None, 8), "say at what to compare"),
        ((["scenes", "scenes"], 1, None, 5, [], None, 8), "named twice"),
        ((["scenes"], 1, None, 5, [("train.seed", "3")], None, 8), "use --seeds"),
        ((["scenes+repa"], 1, 0.5, None, [], 60.0, 8), "leaves nothing of --minutes"),
        ((["scenes+tred"], 1, None, 5, [], None, 8), "did you mean"),
    ],
)
def test_mistakes_get_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message):
        plans.make(*arguments)
