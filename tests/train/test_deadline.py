"""A deadline: what it is set from, what moves it, and a run that keeps it."""

import json
import subprocess
import sys
import time

import pytest
from ranks import command, environment

from daybreak.config import BudgetConfig, ConfigError, check
from daybreak.recipes import recipe
from daybreak.train.clock import Clock
from daybreak.train.deadline import Deadline, end_seconds, limited
from tests.conftest import tiny_config
from tests.waiting import LONG


def test_a_deadline_takes_the_place_of_steps_and_brings_a_decay():
    config, note = limited(recipe("speedrun"), BudgetConfig(24.0, 1500.0, 2.0, 32))
    assert config.train.steps is None and config.optim.decay_share > 0 and "decay" in note
    with pytest.raises(ConfigError, match="--price"):
        check(limited(recipe("scenes"), BudgetConfig(usd=1500.0))[0])


def test_money_makes_a_moment_and_another_number_of_gpus_moves_it(tmp_path, monkeypatch):
    config, _ = limited(tiny_config(), BudgetConfig(usd=640.0, price=2.0))
    now = [1_000_000.0, 500.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[1])
    first = Deadline(tmp_path, config, 32, now[0])
    assert first.seconds_left() == pytest.approx(10 * 3600)
    now[0], now[1] = now[0] + 5 * 3600, now[1] + 5 * 3600
    assert first.cost() == pytest.approx(320)
    first.save()
    now[0] += 3600  # down for an hour, which costs too
    again = Deadline(tmp_path, config, 16, now[0])
    assert again.cost() == pytest.approx(384)
    assert again.seconds_left() == pytest.approx((640 - 384) / (2 * 16) * 3600)


def test_the_moment_stays_through_restarts_and_a_clock_that_jumps(tmp_path, monkeypatch):
    config, _ = limited(tiny_config(), BudgetConfig(hours=10.0))
    now = [1_000_000.0, 500.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[1])
    run = Deadline(tmp_path, config, 1, now[0])
    now[0] += 40_000  # the wall clock is set, by which a running process does not go
    now[1] += 3600
    assert run.seconds_left() == pytest.approx(9 * 3600)
    run.save()
    now[0] = 1_000_000.0 + 2 * 3600
    again = Deadline(tmp_path, config, 1, now[0])
    assert again.seconds_left() == pytest.approx(8 * 3600) and again.went_back == 0
    again.save()
    now[0] -= 1800  # set back while the run was down: it stood still, at least
    later = Deadline(tmp_path, config, 1, now[0])
    assert later.went_back == pytest.approx(1800)
    assert later.seconds_left() == pytest.approx(8 * 3600)


def test_progress_flows_on_through_pauses_and_reaches_its_end_in_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(tiny_config(train__steps=10**9).train, share=0.25, end=100.0)
    clock.run()
    now[0] = 50.0
    assert clock.progress(0) == pytest.approx(0.25 + 0.75 / 2)
    clock.pause()
    now[0] = 80.0
    assert clock.progress(0) == pytest.approx(0.625)  # nothing jumps
    clock.run()
    now[0] = 90.0
    assert clock.progress(0) == pytest.approx(0.8125)  # the rest goes faster
    now[0] = 100.0
    assert clock.progress(0) == 1


def test_room_is_kept_for_the_end():
    durations = {"save": 2.0, "samples": 4.0, "picture": 0.5}
    assert end_seconds(durations, 10, 0, 1000) == pytest.approx(1.05 * 11 + 0.5 + 1 + 1.5)
    # The evaluation shrinks, and a fifth of it is not kept, since drawing may turn out faster.
    assert end_seconds(durations, 500, 0, 1000) == pytest.approx(206 + 5 - 40 + 25 + 1 + 1.5)
    # What metrics draw does not give way.
    assert end_seconds(durations, 0, 100, 1000) == pytest.approx(56 + 0.05 * 56 + 5 + 1 + 1.5)


def test_a_run_ends_decayed_and_evaluated_before_its_deadline(tmp_path):
    """A short one, on a machine that may be busy; benchmarks/deadline.py measures how near."""
    run, seconds = tmp_path / "run", 12 if sys.platform == "linux" else 60  # elsewhere starting alone takes long
    words = command(run, 1, "--deadline", f"{seconds}s", "--price", "2.0")
    subprocess.run([sys.executable, "-m", "daybreak", "--version"], env=environment(), check=True)  # what loads, has
    began = time.time()
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LONG)
    took = time.time() - began
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0.8 * seconds < took < 1.05 * seconds
    steps = [e for e in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if e["event"] == "step"]
    assert steps[-1]["lr_factor"] < 0.1
    assert steps[-1]["cost_forecast"] == pytest.approx(2 * seconds / 3600, rel=0.1)
    assert (run / "score.json").exists() and (run / "report.html").exists()
