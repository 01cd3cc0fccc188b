"""The track: a tiny run judged, written as an entry, changed by hand, run again; rules, clocks and targets."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.open import open_source
from daybreak.evaluate.metrics import frechet_distance, moments
from daybreak.files import sha256
from daybreak.model.transformer import Transformer
from daybreak.track import curve, rules
from daybreak.track import entry as entries
from daybreak.track import plan as plans
from daybreak.track.asked import asked_track
from daybreak.track.judge import open_judge
from daybreak.track.one import run_one
from daybreak.track.random_features import RandomFeatures, Scaled
from daybreak.track.verify import compare
from tests.in_process import here

TINY = [
    "--model.width", "64", "--model.depth", "2", "--model.heads", "2", "--text.width", "32", "--text.heads", "2",
    "--train.batch", "8", "--sample.steps", "2", "--train.steps", "4",
]  # fmt: skip
TRACK = ["track", "scenes-demo", "--track", "scenes-32-cpu", "--seeds", "1", "--teach", "2"]


def trained(folder, hidden=None):
    """The folder of an entry whose run has trained, in this process: the command then judges it."""
    settings = list(zip([k[2:] for k in TINY[::2]], TINY[1::2], strict=True))
    plans.make("scenes-32-cpu", "scenes-demo", settings, 1, "", None, hidden, teach=2).save(folder)
    run_one(folder, 0, time.time())
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("track") / "entry")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.fixture
def made(kept, tmp_path, monkeypatch, capsys):
    """The entry of the trained run, made by the command."""
    shutil.copytree(kept, tmp_path / "entry")
    later = here([*TRACK, "--out", "entry", "--no-judge", *TINY], tmp_path, monkeypatch, capsys)
    assert later.returncode == 0 and not (tmp_path / "entry" / "entry.json").exists()
    done = here([*TRACK, "--out", "entry", *TINY], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    assert "trained before" in done.stdout and "0 of 1" in done.stdout
    return tmp_path / "entry"


def test_an_entry_holds_its_score_over_time_and_survives_no_change(made, tmp_path, monkeypatch, capsys):
    entry = entries.check(made)
    (seed,) = entry["seeds"]
    assert seed["rows"][-1]["step"] == 4 and seed["rows"][-1]["images"] == 32
    assert all(0 <= row["one_and_two_objects"] <= 1 and row["seconds"] > 0 for row in seed["rows"])
    assert seed["clock"]["rate_after"] > 0 and entry["config"]["model"]["width"] == 64
    assert {"curve.png", "pictures.png", "plan.json", "runs/seed0/log.jsonl"} <= entry["files"].keys()
    # Its teacher was trained by the run's own clock, so no other is charged.
    assert "teachers/seed0.safetensors" in entry["files"] and seed["clock"]["teacher_seconds"] == 0
    assert str(made.name) in (made / "runs" / "seed0" / "config.yaml").read_text() and entry["teach"] == 2

    page = here(["track", "entry", "--page", "docs/track"], tmp_path, monkeypatch, capsys)
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "docs" / "track.md").read_text()
    assert (
        "| scenes-demo --model.width 64" in text
        and "--teach 2 |" in text
        and entry["digest"][:8] in text
        and "practice" in text
    )
    (small,) = (tmp_path / "docs" / "track").glob("scenes-32-cpu-*.json")
    assert small.with_suffix(".png").read_bytes() == (made / "pictures.png").read_bytes()
    for name, code, said in (("seed", 0, "seed-"), ("other", 2, "no entry in docs/track was judged with it")):
        (tmp_path / name).write_text(f"{name} of sixteen bytes or more")
        hidden = json.loads(small.read_text()) | {"hidden": sha256(tmp_path / "seed")}
        small.write_text(json.dumps(hidden | {"digest": entries.own_digest(hidden)}))
        told = here(["track", "--page", "docs/track", "--hidden-seed", name], tmp_path, monkeypatch, capsys)
        assert told.returncode == code and said in told.stdout + told.stderr
    text = (tmp_path / "docs" / "track.md").read_text()
    assert f"[hidden seed](track/seed-{hidden['hidden'][:8]}), shown since" in text
    better = json.loads(small.read_text())
    better["figures"]["half"]["mean"] = 1.0
    small.write_text(json.dumps(better))
    told = here(["track", "--page", "docs/track"], tmp_path, monkeypatch, capsys)
    assert told.returncode == 2 and "was changed after it was written" in told.stderr

    again = tmp_path / "again"
    shutil.copytree(made, again, ignore=shutil.ignore_patterns("entry.json", "*.png", "scores.json"))
    verified = here(["track", "--verify", "entry", "--out", "again"], tmp_path, monkeypatch, capsys)
    assert verified.returncode == 0, verified.stderr
    assert "files are as they were" in verified.stdout and verified.stdout.count(" confirmed") == 3
    assert entries.check(again)["seeds"][0]["rows"] == entry["seeds"][0]["rows"]  # the same averages, judged alike

    log = made / "runs" / "seed0" / "log.jsonl"
    log.write_text(log.read_text() + "\n")
    with pytest.raises(ConfigError, match="log.jsonl was changed after the entry was written"):
        entries.check(made)
    log.unlink()
    with pytest.raises(ConfigError, match="log.jsonl is missing"):
        entries.check(made)


def test_a_target_is_reached_when_the_next_average_reaches_it_too():
    line = [(10.0, 0.1), (20.0, 0.6), (30.0, 0.4), (40.0, 0.6), (50.0, 0.7)]
    assert curve.time_to(line, 0.5, 100) == 35.0
    assert curve.time_to(line, 0.7, 100) == 50.0  # the last one stands for itself
    assert curve.time_to(line, 0.7, 45) is None and curve.time_to(line, 0.9, 100) is None
    assert curve.value_at(line, 45) == 0.6 and curve.value_at(line, 5) is None
    track = rules.find_track("scenes-32-cpu")
    clock = {"rate_before": 2 * track.reference_rate, "rate_after": track.reference_rate, "teacher_seconds": 7.0}
    assert curve.charged(100.0, clock, track) == 207.0


def test_a_run_again_confirms_unless_it_is_slower_than_the_tolerance():
    track = rules.find_track("scenes-32-cpu")

    def said(half):
        return {"figures": {t.name: {"mean": half if t.name == "half" else None} for t in track.targets}}

    def confirmed(told, again):
        return all(c.confirmed for c in compare(track, said(told), said(again)))

    assert confirmed(100.0, 124.0) and confirmed(100.0, 20.0) and confirmed(None, None)
    assert not confirmed(100.0, 126.0) and not confirmed(100.0, None)


def test_figures_of_seeds_that_did_not_all_reach_a_target_have_no_mean():
    assert entries.summary([10.0, 14.0])["mean"] == 12.0
    assert entries.summary([10.0, None]) == {"mean": None, "spread": None, "reached": 1, "of": 2}


def test_a_hidden_seed_is_not_the_practice_one_and_cannot_be_read_from_its_digest(tmp_path):
    (tmp_path / "secret").write_bytes(b"sixteen bytes and more")
    seed, told = plans.hidden_seed(tmp_path / "secret")
    assert seed != rules.PRACTICE_SEED and seed < 2**plans.SEED_BITS and f"{seed:x}" not in told
    plan = plans.make("scenes-32-cpu", "scenes-demo", [], 1, "", None, tmp_path / "secret")
    assert plan.hidden == told and plans.judging_seed(plan, tmp_path / "secret") == seed
    assert plan.config(0).evaluate.seed == rules.PRACTICE_SEED  # the run that trains does not know it
    (tmp_path / "other").write_bytes(b"another sixteen bytes")
    with pytest.raises(ConfigError, match="is not the file"):
        plans.judging_seed(plan, tmp_path / "other")


def test_random_features_tell_sets_of_pictures_apart():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(120, 3, 4, 4, generator=generator) * 2 - 1, scale_factor=16)
    features = Scaled(RandomFeatures(7), smooth[:60])
    reference = moments(features(smooth[:60]))

    def distance(pictures):
        return frechet_distance(moments(features(pictures)), reference)

    noise = torch.randn(60, 3, 64, 64, generator=generator)
    others, noisy, noisier = (distance(smooth[60:] + s * noise) for s in (0, 0.2, 0.5))
    assert distance(smooth[:60]) < 1e-6 < others < noisy < noisier
    assert distance(smooth[60:].flip(1) ** 3) > others
    assert not torch.equal(RandomFeatures(7)(smooth[:2]), RandomFeatures(8)(smooth[:2]))


def test_a_folder_s_pictures_are_nearer_to_themselves_than_noise_is(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for i in range(12):
        colour = tuple(torch.randint(256, (3,), generator=generator).tolist())
        Image.new("RGB", (70, 64), colour).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"colour {i}")
    track = replace(rules.find_track("emoji-64"), pictures=12)
    config = rules.run_config(track, "folder", (("train.minutes", "9.5"),), str(tmp_path), 0)
    judge = open_judge(track, config, 5)
    assert sorted(judge.prompts) == sorted(f"colour {i}" for i in range(12))
    real = open_source(config).batch(0, 12).images
    noise = torch.randn(real.shape, generator=generator).clamp(-1, 1)
    assert judge.score(real)["frechet"] < 1e-3 < judge.score(noise)["frechet"]
    assert entries.folder_digest(tmp_path) != entries.folder_digest(tmp_path.parent)


def asked(words, track="scenes-32-cpu", **given):
    options = {"seeds": 1, "out": None, "data": None, "hidden_seed": None, "changed": "", "verify": None, "page": None}
    return asked_track(words, track, **(options | given))


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        (["scenes-demo"], {"track": "scenes-32"}, "unknown track 'scenes-32'; there are scenes-32-cpu.*did you mean"),
        (["scenes-demo"], {"track": None}, "say on which track"),
        ([], {}, "say what to run"),
        (["scenes-demo", "--data.dense", "0.5"], {}, "data.dense is 0.5, which the track scenes-32-cpu fixes at 0.9"),
        (["scenes"], {}, "data.dense is 0.0, which the track"),
        (["scenes-gpu"], {}, "data.resolution is 128, which the track scenes-32-cpu fixes at 32"),
        (["scenes-demo", "--data.task_weights", "1,1,1,1,1,1"], {}, "data.task_weights is 1,1,1,1,1,1, which"),
        (["scenes-demo", "--text.pretrained", "google/t5"], {}, "text.pretrained is google/t5, which .* fixes at none"),
        (["scenes-demo", "--alignment.teacher", "facebook/dinov2-base"], {}, "dinov2-base has learnt elsewhere"),
        (["scenes-demo", "--train.seed", "3"], {}, "--train.seed is the track's own: --seeds"),
        (
            ["scenes-demo", "--train.minutes", "30"],
            {},
            "train.minutes is 30, and the track .* ends after 10",
        ),
        (["scenes-demo", "--sample.steps", "200"], {}, "takes 400 passes of the network, and the track allows 200"),
        (["scenes-demo"], {"data": "x"}, "has its own world"),
        (["folder"], {"track": "emoji-64"}, "takes its pictures from a folder: --data FOLDER"),
        (
            ["peer-prx"],
            {"peer_checkout": Path("nowhere")},
            "nowhere is no checkout of Photoroom/PRX",
        ),
        (["scenes-demo+no-repa"], {"teach": 9}, "--teach has no effect: scenes-demo.no-repa does not learn"),
        (["scenes-demo", "--alignment.teacher", "embedded"], {"teach": 9}, "has no effect beside --teach"),
        (["scenes-demo"], {"verify": "x", "teach": 9}, "--teach is for a new entry"),
        (["scenes-demo"], {"verify": "x"}, "--verify runs the entry as it is"),
        ([], {"page": Path(), "track": None, "judge": False}, "--no-judge leaves the judging"),
        (["scenes-demo"], {"page": "x"}, "--page takes entries and a hidden seed"),
    ],
)
def test_what_breaks_a_rule_gets_one_line(words, given, message):
    with pytest.raises(ConfigError, match=message) as error:
        asked(words, **given)
    assert "\n" not in str(error.value)


def test_the_cores_of_the_track_have_to_be_there(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    with pytest.raises(ConfigError, match="scenes-32-cpu runs on 2 CPU cores, and here is 1"):
        asked(["scenes-demo"])


@pytest.mark.parametrize("peer", ["dit", "mmdit", "minit2i", "prx"])
def test_peers_keep_the_rules_and_none_has_a_part_of_ours(peer):
    config = rules.run_config(rules.find_track("scenes-32-cpu"), f"peer-{peer}", (), None, 0)
    assert rules.charged_seconds(config) == 0.0
    m = config.model
    assert not (m.grounding or m.text_convolutions or m.convolutions) and m.start == "grey" and config.text.depth == 1
    network = Transformer(m, config.text.width, config.routing)
    assert 1.4e6 < sum(p.numel() for p in network.parameters()) < 1.8e6


def test_an_entry_of_other_rules_is_not_compared(kept, tmp_path, monkeypatch):
    shutil.copytree(kept, tmp_path / "entry")
    changed = replace(rules.TRACKS["scenes-32-cpu"], limit=900.0)
    monkeypatch.setitem(rules.TRACKS, "scenes-32-cpu", changed)
    with pytest.raises(ConfigError, match="made by other rules of scenes-32-cpu"):
        plans.load(tmp_path / "entry")
