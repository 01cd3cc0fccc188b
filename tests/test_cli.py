"""The commands as a user types them, in a process of their own."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from daybreak import cli
from daybreak.config import save
from daybreak.data import listing
from daybreak.data.reading.sources import make_plan
from daybreak.data.scenes.expand import expand
from daybreak.library_messages import Keeper
from daybreak.recipes import recipe
from tests.chat_server import chatting
from tests.conftest import TINY
from tests.frozen import frozen_in
from tests.in_process import here
from tests.waiting import LONG

SETTINGS = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]


def daybreak(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "daybreak", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LONG)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    done = daybreak("train", "scenes", "--out", "run", *SETTINGS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_train_leaves_a_scored_run(trained):
    score = json.loads((trained / "score.json").read_text())
    tasks = {"single_object", "two_object", "counting", "colors", "position", "color_attr"}
    assert tasks | {"overall", "held_out"} <= score.keys()
    counts, intervals = score.pop("counts"), score.pop("intervals")
    assert all(0 <= v <= 1 for v in score.values())
    assert counts.keys() == intervals.keys() and counts["overall"] == 6 and counts["held_out"] == 3
    assert all(low <= score[name] <= high for name, (low, high) in intervals.items())
    assert (trained / "grid.png").exists()
    report = frozen_in(trained / "report.html")
    judged = report["told"]["still"]["judged"]
    assert len(judged) == 9 and all(report["files"][p["file"]].startswith("data:image/png;base64") for p in judged)
    assert all(p["followed"] == all(t["right"] for t in p["told"]) for p in judged)
    assert "model:" in (trained / "config.yaml").read_text()


def test_evaluate_gives_the_same_score_again(trained, monkeypatch, capsys):
    first = (trained / "score.json").read_text()
    done = here(["evaluate", trained], trained.parent, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    assert "held-out combinations" in done.stdout
    assert (trained / "score.json").read_text() == first


def test_sample_draws_what_is_asked_for(trained, tmp_path, monkeypatch, capsys):
    prompts = ["--prompt", "a red circle", "--prompt", "two blue squares"]
    for name in ("a.png", "b.png"):
        words = ["sample", trained, *prompts, "--out", tmp_path / name, "--seed", 3, "--size", 40]
        done = here(words, tmp_path, monkeypatch, capsys)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 2 * 160


def test_sample_shows_and_keeps_what_it_drew(demo_run, tmp_path, monkeypatch, capsys):
    words = ["sample", demo_run, "--prompt", "a red circle", "--prompt", "a dog", "--seed", 3, "--out"]
    done = here([*words, tmp_path / "a.png"], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    long = expand(["a red circle"], 3, [0])[0]
    assert f"a red circle\n  drawn as: {long}" in done.stdout and "a dog\n  drawn as" not in done.stdout
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["parameters"]) == {
            "prompts": ["a red circle", "a dog"], "drawn as": [long, "a dog"]
        }  # fmt: skip
    done = here([*words, tmp_path / "b.png", "--expand", "none"], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0 and "drawn as" not in done.stdout
    with Image.open(tmp_path / "b.png") as image:
        assert json.loads(image.text["parameters"])["drawn as"] == ["a red circle", "a dog"]
    with chatting() as chat:
        done = here([*words, tmp_path / "c.png", "--expand", chat.url], tmp_path, monkeypatch, capsys)
        assert done.returncode == 0 and "a dog\n  drawn as: a dog, in detail" in done.stdout
        done = here([*words, tmp_path / "d.png", "--expand", f"{chat.url}/no"], tmp_path, monkeypatch, capsys)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "--expand http" in done.stderr


def test_evaluate_without_expansion(demo_run, tmp_path, monkeypatch, capsys):
    shutil.copytree(demo_run, tmp_path / "run")
    said = {}
    for expand_by in ("scenes", "none"):
        done = here(["evaluate", "run", "--expand", expand_by], tmp_path, monkeypatch, capsys)
        assert done.returncode == 0, done.stderr
        score = json.loads((tmp_path / "run" / "score.json").read_text())
        said[expand_by] = done.stdout, score, (tmp_path / "run" / "report.html").read_text()
    assert "as they stand, one and two objects" in said["scenes"][0] and "as they stand" not in said["none"][0]
    assert said["scenes"][1]["as_they_stand_overall"] == said["none"][1]["overall"]
    assert "prompts as they stand" in said["scenes"][2] and "prompts as they stand" not in said["none"][2]


def test_a_folder_of_pictures_trains_and_resumes(tmp_path, monkeypatch, capsys):
    (tmp_path / "pictures").mkdir()
    for i in range(6):
        Image.new("RGB", (50, 40), (40 * i, 0, 90)).save(tmp_path / "pictures" / f"{i}.png")
        (tmp_path / "pictures" / f"{i}.txt").write_text(f"shade {i}")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"x")
    (tmp_path / "pictures" / "broken.txt").write_text("broken")
    words, plans = ["train", "folder", "--data", "pictures", "--out", "run", *SETTINGS], []
    monkeypatch.setattr(listing, "make_plan", lambda *asked: plans.append(asked) or make_plan(*asked))
    done = here(words, tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    assert len(plans) == 1  # which takes long for a large folder
    assert "1 items cannot be used and are skipped" in done.stdout
    assert "broken.png" in (tmp_path / "run" / "skipped.jsonl").read_text()
    done = here(["train", "--resume", "run", "--train.steps", 8], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(x)["step"] for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines() if '"step"' in x]
    assert max(steps) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "scnes"],
            "unknown recipe 'scnes'; there are scenes, scenes-demo, scenes-box, scenes-stack, scenes-gpu, folder, "
            "speedrun, speedrun2, minit2i, peer-dit, peer-mmdit, peer-minit2i, peer-prx; did you mean scenes?",
        ),
        (["train"], "say what to train"),
        (["train", "scenes", "--train.bach", "3"], "unknown setting train.bach; did you mean train.batch?"),
        (["train", "scenes", "--train.batch"], "--train.batch needs a value"),
        (["train", "scenes", "--train.batch", "x"], "train.batch is 'x'; it must be a whole number"),
        (["train", "scenes", "extra"], "unexpected argument 'extra'"),
        (["train", "folder"], "--data FOLDER"),
        (["train", "folder", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["train", "scenes", "--config", "no.yaml"], "no such config file: no.yaml"),
        (["train", "--resume", "nowhere"], "nowhere: no such run folder"),
        (["sample", "nowhere", "--prompt", "x"], "nowhere: no such run folder"),
        (["evaluate", "."], "is no run folder: it holds no config.yaml"),
        (["settings", "nope"], "unknown recipe 'nope'"),
        (["prepare", ".", "--out", "x", "--max-ratio", "inf"], "--max-ratio is 'inf'; it must be a number"),
        (["prepare", ".", "--out", "x", "--min-side", "-3"], "--min-side is -3; it must be at least 0"),
        (["prepare", ".", "--out", "x", "--patch", "0"], "--patch is 0; it must be at least 1"),
        (["prepare", ".", "--out", "x", "--copy-size", "1024"], "with --size 1024 it must be at most 672, since"),
        (["prepare", ".", "--out", "x", "--caption", "text=inf"], "the weight must be a number above 0"),
        (["caption", "x", "--model", "m", "--weight", "inf"], "--weight is 'inf'; it must be a number"),
        (["teach", "--out", "teacher.pt"], "--out teacher.pt: the weights are written as safetensors"),
        (["teach", "--out", "/dev/null/teacher.safetensors"], "--out /dev/null/teacher.safetensors cannot be written"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, monkeypatch, capsys, words, message):
    done = here(words, tmp_path, monkeypatch, capsys)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_mistake_gets_one_line_in_a_process_too(tmp_path):
    done = daybreak("train", "scnes", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown recipe 'scnes'")
    assert "Traceback" not in done.stderr + done.stdout


MISTAKES = """
ablate scenes
ablate scenes scenes+nope --minutes 1
ablate scenes scenes+tread --minutes 1 --out full
average nowhere --length 0.1 --out new
average run --length 3 --out new
average run --length 0.1 --out full
caption nowhere --model m
caption . --model m --weight inf
compare . .
compare-blind
compare-blind nowhere full
compare-blind full full --questions nope
compare-blind --results nowhere
demo --out full
distill nowhere
distill run --train.bach 3
embed nowhere --model m
embed . --model m --dtype nope
evaluate nowhere
evaluate scenes --metrics nope
evaluate scenes --metrics fid --count 3
evaluate scenes --weights nope=x
evaluate scenes --reference nowhere
evaluate scenes --size 42
export nowhere --out new
export scenes --out full
export scenes --out new --ema 0.1
finetune base --data full
finetune base --data full --rank 0
finetune base --data pictures --out full
finetune nowhere --data pictures
finetune run --data pictures --min-snr 5
finetune --resume nowhere
import full --out new
import run --out full
inspect nowhere
inspect . --size 0
key NAME --file /dev/null/keys
launch scenes --out new --train.bach 3
launch folder --out new --data nowhere
loadtest http://127.0.0.1:9
loadtest ftp://x
note nowhere --text x
note full
plan scnes
plan scenes --gpu nope
plan scenes --calibration nowhere
prefer
prefer nowhere --votes full
prefer run --judge scenes
prefer scenes --votes full
prefer scenes --pairs full
prefer scenes --judge nope
prefer scenes --judge scenes --steps 0
prefer --resume run
prepare nowhere --out new
prepare . --out new --patch 0
runs nowhere
sample nowhere --prompt x
sample full --prompt x
sample scenes --prompt x --out grid.jpg
sample scenes --prompt x --size 42
serve nowhere
serve scenes --keys nowhere
serve scenes scenes
settings nope
shrink nowhere --out new
shrink scenes --out full
status .
status run --json --watch
teach --data nowhere
tell run stop
tell run jump
teach --out teacher.pt
track scenes-demo
track scenes-demo --track scenes-32
track scenes --track scenes-32-cpu
track --verify nowhere
track --page nowhere
train scnes
train scenes --optim.lr abc
train scenes --train.batch x
train scenes --out full
train folder --data full
watch nowhere
watch
watch full
watch run --host 0.0.0.0
""".strip().splitlines()
"""Of every command. `full` holds a file, `run` a config alone, `pictures` what can be trained on."""


def test_a_mistake_is_told_before_torch_is_loaded(tmp_path):
    assert {m.split()[0] for m in MISTAKES} == set(typer.main.get_command(cli.app).commands)
    for folder in ("full", "run", "pictures"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full" / "file").touch()
    save(recipe("scenes"), tmp_path / "run" / "config.yaml")
    Image.new("RGB", (64, 64)).save(tmp_path / "pictures" / "black.png")
    (tmp_path / "pictures" / "black.txt").write_text("nothing")
    program = (
        "import sys; from daybreak.cli import app; from daybreak.config import ConfigError\n"
        "slow = {'torch', 'transformers', 'diffusers', 'scipy', 'matplotlib', 'fastapi'}\n"
        "for mistake in sys.stdin.read().splitlines():\n"
        "    try: app(mistake.split(), standalone_mode=False); print('not told:', mistake)\n"
        "    except ConfigError: print('told:', mistake, *slow & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, input="\n".join(MISTAKES)
    )
    told = [line for line in done.stdout.splitlines() if line]  # a progress bar leaves an empty one
    assert told == [f"told: {mistake}" for mistake in MISTAKES], done.stderr


def test_what_libraries_say_is_kept_in_a_file(tmp_path):
    """huggingface_hub gives its logger a handler of its own when it is imported; warnings go to stderr by default."""
    program = (
        "import logging, warnings; from daybreak.library_messages import keep_messages, keeper; keep_messages()\n"
        "from huggingface_hub.utils import logging as hub\n"
        "hub.get_logger('huggingface_hub.file_download').warning('a retry')\n"
        "warnings.warn('an old name')\n"
        "logging.getLogger('somebody').warning('heard')\n"
        "keeper.end()\n"
    )
    environment = os.environ | {"DAYBREAK_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "" and done.stderr == "heard\n"
    kept = (tmp_path / "cache" / "libraries.log").read_text()
    assert "huggingface_hub.file_download: a retry" in kept and "an old name" in kept


def test_what_was_said_before_a_run_had_its_folder_is_kept_there_too(tmp_path):
    held = Keeper()
    held.emit(logging.LogRecord("transformers", logging.WARNING, "x.py", 1, "before", (), None))
    assert not (tmp_path / "libraries.log").exists()
    held.keep_in(tmp_path / "libraries.log")
    held.emit(logging.LogRecord("transformers", logging.WARNING, "x.py", 1, "after", (), None))
    assert [line.split(": ")[-1] for line in (tmp_path / "libraries.log").read_text().splitlines()] == [
        "before",
        "after",
    ]


def test_a_wrong_size_and_name_are_refused(trained, tmp_path, monkeypatch, capsys):
    done = here(["sample", trained, "--prompt", "x", "--size", 42], tmp_path, monkeypatch, capsys)
    assert "--size 42 does not divide by the run's patches of 4 px; 40 does" in done.stderr
    done = here(["sample", trained, "--prompt", "x", "--out", "grid.jpg"], tmp_path, monkeypatch, capsys)
    assert "should end in .png" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "train",
        "sample",
        "evaluate",
        "settings",
        "export",
        "import",
        "shrink",
        "serve",
        "key",
        "plan",
        "launch",
        "status",
        "compare",
    ],
)
def test_help_reads(tmp_path, monkeypatch, capsys, command):
    done = here([command, "--help"], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0
    assert len(done.stdout) > 250


def test_settings_lists_every_field_with_its_meaning(tmp_path, monkeypatch, capsys):
    done = here(["settings", "scenes"], tmp_path, monkeypatch, capsys)
    assert "--optim.muon_lr" in done.stdout
    assert "Learning rate of the blocks' matrices" in done.stdout


def test_export_and_import_as_commands(trained, tmp_path, monkeypatch, capsys):
    words = ["export", trained, "--out", tmp_path / "model", "--license", "mit"]
    done = here(words, tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    assert "DiffusionPipeline.from_pretrained" in done.stdout
    assert "license: mit" in (tmp_path / "model" / "README.md").read_text()
    pixels = []
    for place in (trained, tmp_path / "model"):
        words = ["sample", place, "--prompt", "a red circle", "--seed", 3, "--out", tmp_path / "grid.png"]
        done = here(words, tmp_path, monkeypatch, capsys)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "grid.png") as image:
            pixels.append(np.asarray(image).astype(int))
    assert np.abs(pixels[0] - pixels[1]).max() <= 1
    done = here(["import", tmp_path / "model", "--out", tmp_path / "start"], tmp_path, monkeypatch, capsys)
    assert done.returncode == 0, done.stderr
    assert "daybreak train --resume" in done.stdout
    assert (tmp_path / "start" / "checkpoints" / "step-00000000").is_dir()
