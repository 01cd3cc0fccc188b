"""`daybreak prefer` from one end to the other, with tiny models: votes, pairs, judges; resumed to the bit; mistakes."""

import io
import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console

from daybreak import checkpoint_files
from daybreak.commands.prefer import resume_prefer
from daybreak.config import ConfigError, load, override, save
from daybreak.files import new_folder
from daybreak.formats.run import load_averaged
from daybreak.formats.weights import read_tensors
from daybreak.prefer.asked import check_prefer, run_to_resume
from daybreak.prefer.ballots import count_votes
from daybreak.prefer.opening import begin_own
from daybreak.prefer.pairs import PairSource, read_pairs
from daybreak.prefer.prompts import Prompts, evaluation_prompts, open_prompts
from daybreak.prefer.settings import PreferSettings
from daybreak.run_folder import load_run_config
from daybreak.vote import study as studies
from daybreak.vote.contestants import contestants_of
from daybreak.vote.pairs import pairs_of_study, schedule
from daybreak.vote.study import picture_path
from daybreak.vote.votes import Votes
from tests.in_process import here

BRIGHT = """
import json, pathlib, sys
from PIL import Image
for line in sys.stdin:
    picture = Image.open(pathlib.Path(sys.argv[1]) / json.loads(line)["file_name"]).convert("L").resize((1, 1))
    print(picture.getpixel((0, 0)))
"""
SMALL = {"batch": 4, "held_out": 4, "lr": 0.01, "count": 50}


def brightness(path):
    return np.asarray(Image.open(path).convert("RGB")).mean()


def vote(folder, choose):
    """One voter's votes on all pairs of a study; choose: item, left, right -> "left", "right" or "tie"."""
    study = studies.load(folder)
    votes = Votes(folder / "votes.sqlite", study.questions)
    shown = pairs_of_study(len(study.prompts), len(study.contestants), None, study.seed)
    votes.add_voter(1, schedule(shown, study.seed, 1))
    for step, pair in enumerate(votes.pairs(1)):
        votes.cast(1, step, choose(pair.item, pair.left, pair.right), f"vote-{step:06}", 1.0)
    votes.close()


@pytest.fixture(scope="module")
def study(demo_run, tmp_path_factory):
    """The demo's run against itself, voted on: brighter pictures win, and one pair of eight is a tie."""
    folder = tmp_path_factory.mktemp("blind") / "study"
    studies.create(folder, contestants_of([demo_run], ()), None, ("overall",), 3, None, lambda _: None)

    def choose(item, left, right):
        a, b = (brightness(picture_path(folder, item, k)) for k in (left, right))
        return "tie" if item % 8 == 7 else "left" if a > b else "right"

    vote(folder, choose)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A command that prefers brighter pictures."""
    path = tmp_path_factory.mktemp("judge") / "bright.py"
    path.write_text(BRIGHT)
    return f"{sys.executable} {path}"


def figures(run):
    return json.loads((run / "report" / "report.json").read_text())


def probes(run):
    return [e["values"] for e in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if e["event"] == "probe"]


def begun(settings, run, **changes):
    """A run at step 0, with some settings of the loop changed."""
    settings = check_prefer(settings, run)
    with new_folder(run) as building:
        building.mkdir()
        begin_own(settings, building, lambda _: None)
    config = load(run / "config.yaml")
    for name, value in changes.items():
        config = override(config, name.replace("__", "."), value)
    save(config, run / "config.yaml")
    return settings


def test_votes_on_a_model_alone_are_learnt_from(study, demo_run, tmp_path, monkeypatch, capsys):
    ballots = count_votes(study, demo_run, "overall")
    assert (len(ballots.study.prompts), ballots.ties, ballots.votes, ballots.others) == (48, 6, 48, 0)
    words = ["--votes", study, "--steps", 6, "--out", "run", "--batch", 4, "--held-out", 4, "--lr", 0.01, "--count", 50]
    done = here(["prefer", demo_run, *words], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42 pairs of 48 votes; 6 ties left out" in done.stdout
    run = tmp_path / "run"
    pairs = read_pairs(run / "pairs" / "round-00")
    assert len(pairs) == 42 and all(brightness(p.winner) >= brightness(p.loser) for p in pairs)
    assert any(p.prompt != p.caption for p in pairs)  # the model is given what was written out, once for both
    found = figures(run)
    assert [row[0] for row in found["rows"]][:3] == [
        "other judge, scenes, held-out prompts",
        "spread between pictures of a prompt",
        "drift from the reference",
    ]
    assert "scenes: Fréchet distance" in found["figures"] and found["figures"]["drift from the reference"][1] > 0
    assert "What was learnt, and what it cost" in (run / "report.html").read_text()
    assert {"check", "diversity", "drift_from_reference"} == probes(run)[-1].keys()
    # It draws as any run does, and is gone on with by its own command alone.
    load_averaged(run, load_run_config(run), torch.device("cpu"))
    for command in ("train", "finetune"):
        done = here([command, "--resume", "run"], tmp_path, monkeypatch, capsys)
        assert done.returncode and "was begun by daybreak prefer: go on with daybreak prefer" in done.stderr


def test_a_judge_is_won_over_and_a_killed_run_goes_on_to_the_same_bits(demo_run, judge, tmp_path):
    """Killed in the second of three rounds while its pairs were drawn: from step 2 on it draws them anew."""
    asked = PreferSettings(
        run=str(demo_run), judge=judge, rounds=3, prompts=12, pictures=3, steps=9, beta=100.0, **SMALL | {"lr": 0.005}
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    loop = {"train__save_steps": 2, "train__keep": 9, "train__sample_every": 1.0}
    settings = begun(asked, whole, **loop, evaluate__grid_prompts=("a red circle",))
    resume_prefer(Console(quiet=True), settings, whole)
    shutil.copytree(whole, killed)
    for folder in checkpoint_files.complete(killed):
        if folder.name > "step-00000002":
            shutil.rmtree(folder)
    for index in (1, 2):
        shutil.rmtree(killed / "pairs" / f"round-{index:02d}")
    (killed / "pairs" / "round-01.incomplete").mkdir()
    resume_prefer(Console(quiet=True), run_to_resume(killed, PreferSettings(), None), killed)
    last = [checkpoint_files.complete(run)[-1] for run in (whole, killed)]
    assert [f.name for f in last] == ["step-00000009"] * 2
    for part in ("transformer.safetensors", "training/shard-00001-model-00001-of-00001.safetensors"):
        a, b = (read_tensors(folder / part) for folder in last)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    a, b = (read_pairs(run / "pairs" / "round-02") for run in (whole, killed))
    assert [(p.caption, p.scores) for p in a] == [(p.caption, p.scores) for p in b]
    told = probes(whole)
    assert told[-1]["judge"] > told[0]["judge"] + 3  # of 255: brighter, on prompts that it did not learn from
    assert told[0]["drift_from_reference"] == 0 < told[-1]["drift_from_reference"]


def test_prompts_are_never_the_evaluations(demo_run):
    config = load_run_config(demo_run)
    prompts = open_prompts(PreferSettings(run=str(demo_run), votes="x", held_out=16), config, None)
    asked = set(evaluation_prompts(config))
    assert len(asked) > 5 and len(prompts.held_out) == 16 and len(prompts.learnt) > 100
    assert not asked & {*prompts.learnt, *prompts.held_out} and not set(prompts.learnt) & set(prompts.held_out)
    few = Prompts.of([f"prompt {i}" for i in range(6)], 50, 0)
    assert len(few.held_out) == len(few.learnt) == 3
    assert [n for n, _ in few.of_round(1, 5)] == [5, 6, 7, 8, 9]
    with pytest.raises(ConfigError, match="2 different prompts remain"):
        Prompts.of(["a", "a", "b"], 1, 0)


def picked(path, rows):
    """A Parquet file as Pick-a-Pic has them; rows: (caption, colour, other colour, label_0, label_1)."""

    def jpeg(colour):
        if colour is None:
            return b"no picture"
        file = io.BytesIO()
        Image.new("RGB", (48, 40), colour).save(file, "JPEG")
        return file.getvalue()

    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("caption", "jpg_0", "jpg_1", "label_0", "label_1")
    values = [[c, jpeg(a), jpeg(b), x, y] for c, a, b, x, y in rows]
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*values, strict=True)), strict=True))), path)


def test_pairs_in_pick_a_pics_layout(demo_run, tmp_path):
    white, black = (255, 255, 255), (0, 0, 0)
    rows = [(f"thing {i}", white, black, 1.0, 0.0) for i in range(6)]
    rows += [(f"other {i}", black, white, 0.0, 1.0) for i in range(6)]
    rows += [("tie", white, black, 0.5, 0.5), ("damaged", None, black, 1.0, 0.0), ("odd", white, black, 0.7, 0.1)]
    picked(tmp_path / "pick" / "train.parquet", rows)
    told = []
    settings = check_prefer(PreferSettings(run=str(demo_run), pairs=str(tmp_path / "pick"), **SMALL), None)
    (tmp_path / "run").mkdir()
    begin_own(settings, tmp_path / "run", told.append)
    assert told == [f"12 pairs of {tmp_path / 'pick'}; 1 ties left out; 2 rows skipped"]
    skipped = (tmp_path / "run" / "skipped.jsonl").read_text()
    assert "train.parquet, row 13" in skipped and "label_0 and label_1 are 0.7 and 0.1" in skipped
    source = PairSource([tmp_path / "run" / "pairs" / "round-00"], 32, 0)
    batch = source.batch(0, 12)
    assert batch.winners.shape == (12, 3, 32, 32) and batch.winners.min() > 0.9 and batch.losers.max() < -0.9
    assert sorted(batch.captions) == sorted(c for c, *_ in rows[:12])
    again = source.batch(0, 4)
    assert torch.equal(again.winners, batch.winners[:4]) and source.batch(12, 12).captions != batch.captions


def test_mistakes_are_told_in_a_line(demo_run, finished_run, study, tmp_path):
    def told(error, *, out=None, **settings):
        with pytest.raises(ConfigError, match=error) as e:
            asked = check_prefer(PreferSettings(run=str(settings.pop("run", demo_run)), **settings), out)
            with new_folder(tmp_path / "run") as building:
                building.mkdir()
                begin_own(asked, building, lambda _: None)
        assert "\n" not in str(e.value) and not (tmp_path / "run").exists()

    told("say what is preferred, by one of --votes, --pairs, --judge")
    told("--votes and --judge are given", votes="x", judge="scenes")
    told("--rounds has no effect without --judge", votes="x", rounds=2)
    told("holds no blind comparison", votes=str(tmp_path))
    told("votes on other models' pictures say nothing", run=finished_run, votes=str(study))
    told("--question realism: .* asked for overall", votes=str(study), question="realism")
    few = tmp_path / "few"
    shutil.copytree(study, few)
    (few / "votes.sqlite").unlink()
    told("few holds no votes yet", votes=str(few))
    vote(few, lambda item, *_: "left" if item < 3 else "tie")
    told("of 48 votes on overall 3 pairs have a winner; at least 8 are needed", votes=str(few))
    # The same folder name, but other weights than those that drew.
    moved = tmp_path / "moved"
    shutil.copytree(study, moved)
    description = json.loads((moved / "study.json").read_text())
    description["paths"] = [
        p.replace(str(demo_run.resolve()), str(finished_run.resolve())) for p in description["paths"]
    ]
    (moved / "study.json").write_text(json.dumps(description))
    told("00000-0.png is not what .* draws for", run=finished_run, votes=str(moved))
    told("holds no .parquet file", pairs=str(study))
    picked(tmp_path / "pick" / "a.parquet", [("one", (1, 2, 3), (4, 5, 6), 1.0, 0.0)])
    told("1 pairs, 0 ties and 0 rows that cannot be used; at least 8 pairs", pairs=str(tmp_path / "pick"))
    told("neither a judge, a folder nor a program", judge="no-such-judge")
    told("--check scenes: the other judge has to be another one", judge="scenes", check="scenes")
    with pytest.raises(ConfigError, match="leave --steps out"):
        run_to_resume(tmp_path, PreferSettings(steps=3), None)
    with pytest.raises(ConfigError, match="is no run of daybreak prefer"):
        run_to_resume(demo_run, PreferSettings(), None)


def test_a_judge_that_fails_or_sees_no_difference_ends_the_run_in_a_line(demo_run, tmp_path):
    for program, error in (
        ("exit 3", "failed with 3"),
        ("while read line; do echo 1; done", "as good: there is nothing"),
    ):
        (tmp_path / "judge.sh").write_text(program)
        asked = PreferSettings(run=str(demo_run), judge=f"sh {tmp_path / 'judge.sh'}", prompts=4, pictures=2, **SMALL)
        run = tmp_path / f"run-{len(program)}"
        settings = begun(asked, run)
        with pytest.raises(ConfigError, match=error):
            resume_prefer(Console(quiet=True), settings, run)
