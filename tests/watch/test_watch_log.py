"""A log is read once, and then where it grew; what is thinned keeps its extremes."""

import json

import numpy as np
import pytest

from daybreak.watch.charts import charts_of
from daybreak.watch.log import LOSS, SMOOTHED, Log, keeping_extremes
from daybreak.watch.run import WatchedRun
from tests.watch.watched import step_line, write_run


def test_only_what_is_new_is_told(tmp_path):
    run = WatchedRun(write_run(tmp_path / "run", 3))
    first = run.tell()
    assert first["reset"] and first["curves"][LOSS]["step"] == [1, 2, 3] and "still" in first
    assert first["curves"][LOSS]["value"] == [2, 1, 0.666667] and first["curves"]["terms/velocity"]["images"] == [
        1,
        2,
        3,
    ]
    nothing = run.tell(first["cursor"])
    assert not nothing["reset"] and nothing["curves"] == {} and nothing["events"] == [] and "still" not in nothing
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write(step_line(4) + step_line(5)[:40])  # half a line of a step that is being written
    more = run.tell(first["cursor"])
    assert more["curves"][LOSS]["step"] == [4]
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write(step_line(5)[40:])
    last = run.tell(more["cursor"])
    assert last["curves"][LOSS]["step"] == [5] and last["facts"]["step"] == 5


def test_what_a_run_did_again_replaces_what_it_did_before(tmp_path):
    from daybreak.train.watch import LogFiles

    run = WatchedRun(write_run(tmp_path / "run", 10))
    before = run.tell()
    files = LogFiles(tmp_path / "run", resumed_from=4)
    files.close()
    again = run.tell(before["cursor"])
    assert again["reset"] and again["curves"][LOSS]["step"] == [1, 2, 3, 4]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_log_that_ends_in_half_a_line_or_holds_nonsense(tmp_path, cut):
    folder = write_run(tmp_path / "run", 3)
    whole = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text('nonsense\n[1]\n{"event": "step"}\n{"event": "samples"}\n' + whole[:-cut])
    told = WatchedRun(folder).tell()
    assert told["curves"][LOSS]["step"] == [1, 2]
    json.dumps(told, allow_nan=False)


def test_what_is_not_finite_is_no_number(tmp_path):
    folder = write_run(tmp_path / "run", 2)
    with (folder / "log.jsonl").open("a") as log:
        log.write(step_line(3, loss=float("nan")) + step_line(4))
    curves = WatchedRun(folder).tell()["curves"]
    assert curves[LOSS]["value"][2] is None and curves[SMOOTHED]["step"] == [1, 2, 4]


def test_thinning_keeps_every_peak_and_both_ends():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_007)
    values[[17, 4_321, 9_999]] = 50, -50, 60
    values[5_000:5_040] = np.nan
    kept = keeping_extremes(values, 600)
    assert 300 < len(kept) <= 602 and (np.diff(kept) > 0).all()
    assert {0, 17, 4_321, 9_999, 10_006} <= set(kept.tolist())
    assert (keeping_extremes(values[:600], 600) == np.arange(600)).all()
    assert len(keeping_extremes(np.full(1000, np.nan), 100)) == 2


def test_the_smoothed_loss_begins_at_the_loss_and_follows_it(tmp_path):
    log = Log(write_run(tmp_path / "run", 400) / "log.jsonl")
    log.read()
    smoothed = log.curves[SMOOTHED].values
    assert smoothed[0] == 2 and smoothed[-1] == pytest.approx(2 / 390, rel=0.1)


def test_every_curve_stands_in_one_chart():
    names = ["loss", "loss, smoothed", "terms/velocity", "measured/memory_gib", "metrics/fid", "measured/odd_thing",
             "gradient_norm", "gradient_norm/text", "lr_factor"]  # fmt: skip
    charts = charts_of(names)
    drawn = [c["name"] for chart in charts for c in chart["curves"]]
    assert sorted(drawn) == sorted(n for n in names if n != "lr_factor")
    titles = [c["title"] for c in charts]
    assert titles[0] == "Loss" and {"FID", "odd thing", "Gradient norm", "Gradient norm by part"} <= set(titles)
