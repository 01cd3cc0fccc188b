"""`daybreak evaluate` as a user types it: over a run, a folder and a tiny diffusers pipeline."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg
from tiny_models import own_cache, save_mask2former, save_pipeline, save_rewriter, weights, write_pictures
from transformers.utils import logging as transformers_logging

from daybreak.config import ConfigError, EvaluateConfig, override
from daybreak.evaluate import day_check, during_training, measurers
from daybreak.evaluate.geneval import detect
from daybreak.evaluate.measures import METRICS
from daybreak.evaluate.request import Drawing
from daybreak.formats.run import load_averaged
from daybreak.subjects import open_subject
from daybreak.train import checkpoint
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.data.tiny_vlm import tiny_vlm
from tests.frozen import frozen_in
from tests.in_process import here
from tests.waiting import LONG

COCO = ["person", "mouse", "dog", "bench"]


@pytest.fixture(scope="session")
def scenes_run(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("evaluate") / "run"
    train(tiny_config(evaluate__prompts_per_task=2), run, [])
    return run


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Runs the command in this process; returns (exit code, output, errors)."""

    def run(*words: object) -> tuple[int, str, str]:
        done = here(["evaluate", *words], tmp_path, monkeypatch, capsys)
        return done.returncode, done.stdout, done.stderr

    return run


def given(weights, *names: str) -> list[str]:
    return [word for name in names for word in ("--weights", f"{name}={weights[name]}")]


def features(weights, folder: Path) -> np.ndarray:
    module = torch.jit.load(weights["inception"])
    rows = []
    for path in sorted(folder.glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.float32)
        channels = [Image.fromarray(pixels[..., c]).resize((299, 299), Image.BICUBIC) for c in range(3)]
        with torch.no_grad():
            rows.append(module(torch.tensor(np.stack(channels).clip(0, 255))[None], return_features=True)[0].numpy())
    return np.stack(rows).astype(np.float64)


def test_every_metric_has_its_measurer():
    assert all(callable(getattr(measurers, metric.by)) for metric in METRICS.values())


def test_a_folder_of_pictures_against_a_reference(tmp_path, evaluate, weights):
    ours = write_pictures(tmp_path / "ours", 60, seed=1)
    reference = write_pictures(tmp_path / "reference", 70, seed=2)
    (ours / "broken.png").write_bytes(b"x")
    names = "fid,is,kid,cmmd,fd_dinov2,dino_mmd,clipscore"
    code, said, errors = evaluate(
        ours, "--metrics", names, "--reference", reference, *given(weights, "inception", "clip", "clip_336", "dinov2")
    )
    assert code == 0, errors
    out = tmp_path / "evaluations" / "ours"
    score = json.loads((out / "score.json").read_text())
    found = score["metrics"]
    assert list(found) == names.split(",")
    # By numpy and scipy alone.
    (ours / "broken.png").unlink()
    x, y = features(weights, ours), features(weights, reference)
    root = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T))
    gap = x.mean(axis=0) - y.mean(axis=0)
    fid = gap @ gap + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root.real)
    assert found["fid"]["value"] == pytest.approx(fid, rel=1e-3)
    d = x.shape[1]
    k = lambda a, b: (a @ b.T / d + 1) ** 3  # noqa: E731
    off = lambda m: (m.sum() - np.trace(m)) / (len(m) * (len(m) - 1))  # noqa: E731
    assert found["kid"]["value"] == pytest.approx(1000 * (off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean()), rel=1e-3)
    assert found["fid"]["pictures"] == 60 and found["fid"]["reference"] == 70
    for row in found.values():
        low, high = row["interval"]
        assert low <= row["value"] <= high
    # What a reader has to know: too few pictures, another network, what was skipped.
    assert any("fewer than the 96 features" in w for w in found["fid"]["warnings"])
    assert any("bias of few samples" in w for w in found["fid"]["warnings"])
    assert found["fid"]["details"]["bias"] > 0
    assert "small.pt is not the standard Inception network" in score["about"]["notes"][0]
    assert "broken.png" in score["about"]["pictures skipped"][0]
    report = (out / "report.html").read_text()
    for word in ("FID", "CMMD", "FD-DINOv2", "95 % interval", "bias of few samples", "broken.png", "MIT (OpenAI)"):
        assert word in report
    assert "http" not in report  # self-contained
    assert (out / "pictures.png").exists() and (out / "clipscore_lowest.png").exists()
    assert "FID" in said and "note: FID:" in said


def test_a_run_on_scenes_with_its_own_reference_and_its_judge(tmp_path, evaluate, weights, scenes_run):
    code, _, errors = evaluate(
        scenes_run, "--metrics", "scenes,fid,memorised", "--count", 60, "--training",
        write_pictures(tmp_path / "training", 20, seed=3), *given(weights, "inception", "dinov2"),
    )  # fmt: skip
    assert code == 0, errors
    score = json.loads((scenes_run / "score.json").read_text())
    tasks = {"single_object", "two_object", "counting", "colors", "position", "color_attr"}
    assert tasks | {"overall", "held_out", "one_and_two_objects"} <= score.keys()
    assert score["metrics"]["fid"]["pictures"] == score["metrics"]["fid"]["reference"] == 60
    captions = [
        json.loads(r)["text"] for r in (scenes_run / "evaluation/pictures/metadata.jsonl").read_text().splitlines()
    ]
    assert len(captions) == 60
    still = frozen_in(scenes_run / "report.html")["told"]["still"]
    assert [m["title"] for m in still["figures"]["measures"]] == ["FID", "Memorised"]
    assert {t["name"] for t in still["scores"]["tasks"]} >= tasks and still["settings"]["data.source"] == "scenes"
    # Without other metrics, the score is what training wrote, to the digit.
    code, _, errors = evaluate(scenes_run)
    assert code == 0, errors
    again = json.loads((scenes_run / "score.json").read_text())
    assert again == {k: v for k, v in score.items() if k not in ("metrics", "about")}
    assert (tmp_path / "evaluations").exists() is False  # everything lies in the run folder


def test_a_diffusers_pipeline(tmp_path, evaluate, weights, pipeline, monkeypatch):
    few = EvaluateConfig(prompts_per_task=4, held_out_prompts=8)
    monkeypatch.setattr(measurers, "EvaluateConfig", lambda: few)
    reference = write_pictures(tmp_path / "reference", 60, seed=2)
    code, _, errors = evaluate(
        pipeline, "--metrics", "fid,clipscore,scenes", "--reference", reference, "--count", 50, "--steps", 1,
        "--batch", 25, *given(weights, "inception", "clip"), "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, errors
    score = json.loads((tmp_path / "out" / "score.json").read_text())
    assert score["metrics"]["fid"]["pictures"] == 50
    assert "StableDiffusionPipeline" in score["about"]["pipeline"]
    assert 0 <= score["overall"] <= 1
    drawn = tmp_path / "out" / "evaluation" / "pictures"
    captions = {json.loads(r)["text"] for r in (drawn / "metadata.jsonl").read_text().splitlines()}
    assert captions <= {(reference / f"{i:03d}.txt").read_text() for i in range(60)}
    # A second evaluation starts afresh.
    code, _, errors = evaluate(
        pipeline, "--metrics", "clipscore", "--reference", reference, "--count", 8, "--steps", 1,
        *given(weights, "clip"), "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, errors
    assert len(list(drawn.glob("*.png"))) == 8
    assert "overall" not in json.loads((tmp_path / "out" / "score.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "fid", "--count", 4], "FID over 4 pictures drawn says nothing"),
        (["--metrics", "day_check", "--baseline", "nowhere"], "nowhere: no such run folder"),
        (["--metrics", "clipscore", "--prompts", "none.txt"], "--prompts none.txt cannot be read"),
        (["--metrics", "vqa", "--questions", "none.csv"], "--questions none.csv cannot be read"),
        (["--metrics", "kid", "--size", 41, "--count", 4], "--size 41 cannot be drawn by .*divisible by 8"),
        (["--metrics", "kid", "--guidance", "inf"], "--guidance is 'inf'; it must be a number"),
    ],
)
def test_what_is_wrong_is_said_before_a_picture_is_drawn(
    tmp_path, evaluate, weights, pipeline, words, message, monkeypatch
):
    monkeypatch.setattr(transformers_logging, "_tqdm_active", True)  # as a command begins
    reference = write_pictures(tmp_path / "reference", 2, seed=2)
    options = ["--reference", reference, "--steps", 1, *given(weights, "inception", "clip"), "--out", tmp_path / "out"]
    code, _, errors = evaluate(pipeline, *words, *options)
    assert code == 2 and re.search(message, errors), errors
    assert len(errors.strip().splitlines()) == 1
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_picture_depends_on_its_number_not_on_its_batch(scenes_run, pipeline):
    prompts = ["a red dog", "a blue circle", "two dog", "a green square"]
    for subject in (scenes_run, pipeline):
        drawer = open_subject(str(subject), Drawing(seed=3, steps=2), torch.device("cpu")).drawer
        together = drawer.draw(prompts, 5)
        apart = torch.cat([drawer.draw(prompts[:1], 5), drawer.draw(prompts[1:], 6)])
        assert together.shape[0] == 4 and together.min() >= -1 and together.max() <= 1
        torch.testing.assert_close(together, apart, atol=2e-3, rtol=0)
        other = open_subject(str(subject), Drawing(seed=4, steps=2), torch.device("cpu")).drawer.draw(prompts, 5)
        assert (other - together).abs().mean() > 0.01


def test_geneval_draws_judges_and_shows_failures(tmp_path, evaluate, weights, pipeline, monkeypatch):
    monkeypatch.setattr(detect, "SHORT_PX", 160)  # pictures are of 32
    prompts = tmp_path / "prompts.jsonl"
    rows = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}], "prompt": "a photo of a red dog"},
    ]
    prompts.write_text("".join(json.dumps(r) + "\n" for r in rows))
    detector = save_mask2former(tmp_path / "detector", COCO)
    options = ["--geneval-prompts", prompts, "--weights", f"mask2former={detector}", *given(weights, "clip")]
    rewriter = ["--weights", f"rewriter={save_rewriter(tmp_path / 'llm')}"]
    metrics = "geneval,geneval_rewritten"
    code, _, errors = evaluate(pipeline, "--metrics", metrics, "--steps", 1, *options, *rewriter, "--out", "out")
    assert code == 0, errors
    assert len((tmp_path / "out" / "rewritten.jsonl").read_text().splitlines()) == 2
    rewritten = json.loads((tmp_path / "out" / "score.json").read_text())["metrics"]["geneval_rewritten"]
    assert rewritten["pictures"] == 8
    found = json.loads((tmp_path / "out" / "score.json").read_text())["metrics"]["geneval"]
    assert found["pictures"] == 8
    assert set(found["parts"]) == {"single_object", "colors"}
    assert "no pictures of two_object" in found["warnings"][0]
    verdicts = [json.loads(r) for r in (tmp_path / "out" / "geneval.jsonl").read_text().splitlines()]
    assert [v["prompt"] for v in verdicts] == ["a photo of a bench"] * 4 + ["a photo of a red dog"] * 4
    assert found["value"] == pytest.approx(np.mean([v["correct"] for v in verdicts]))
    assert (tmp_path / "out" / "geneval_failures.png").exists()
    assert (tmp_path / "out" / "evaluation" / "geneval" / "00001" / "samples" / "0003.png").exists()
    # The pictures can be judged again as a folder, which anyone's GenEval pictures can.
    folder = tmp_path / "out" / "evaluation" / "geneval"
    code, _, errors = evaluate(folder, "--metrics", "geneval", *options, "--out", "again")
    assert code == 0, errors
    assert json.loads((tmp_path / "again" / "score.json").read_text())["metrics"]["geneval"] == found
    plain = write_pictures(tmp_path / "plain", 3, seed=1)
    code, _, errors = evaluate(plain, "--metrics", "geneval", *options)
    assert code == 2 and "has not GenEval's layout" in errors


def test_questions_about_drawn_pictures(tmp_path, evaluate, scenes_run):
    header = "text,proposition_id,dependency,category_broad,question_natural_language\n"
    (tmp_path / "q.csv").write_text(header + "a red dog,1,0,entity,Is there a dog ?\n")
    options = ["--questions", "q.csv", "--weights", f"vqa={tiny_vlm(tmp_path / 'vqa')}", "--out", "out"]
    code, _, errors = evaluate(scenes_run, "--metrics", "vqa", *options)
    assert code == 0, errors
    found = json.loads((tmp_path / "out" / "score.json").read_text())["metrics"]["vqa"]
    assert found["pictures"] == 4
    assert "Questions (as DPG-Bench)" in (tmp_path / "out" / "report.html").read_text()


def test_the_days_check_and_a_comparison(tmp_path, evaluate, weights, pipeline):
    good = write_pictures(tmp_path / "good", 60, seed=1)
    bad = tmp_path / "bad"
    bad.mkdir()
    for i in range(60):
        noise = np.random.default_rng(i).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(bad / f"{i}.png")
    reference = write_pictures(tmp_path / "reference", 80, seed=2)
    options = ["--metrics", "fid,day_check", "--reference", reference, "--baseline", good, *given(weights, "inception")]
    code, _, errors = evaluate(good, bad, *options, "--out", "both")
    assert code == 0, errors
    found = {n: json.loads((tmp_path / "both" / n / "score.json").read_text())["metrics"] for n in ("good", "bad")}
    assert found["good"]["day_check"]["value"] == pytest.approx(1)
    assert found["good"]["day_check"]["details"]["verdict"] == "within 10 % of the baseline"
    assert found["bad"]["day_check"]["value"] > 1.5
    assert found["bad"]["day_check"]["details"]["passed"] is False
    assert found["bad"]["fid"]["value"] > found["good"]["fid"]["interval"][1]
    page = (tmp_path / "both" / "comparison.html").read_text()
    assert page.count('class="number best"') == 2
    assert "good against bad" in page
    # A model that draws leaves a contact sheet.
    options = ["--metrics", "day_check", "--reference", reference, "--baseline", good, "--count", 60, "--steps", 1]
    code, _, errors = evaluate(pipeline, *options, *given(weights, "inception"), "--out", "sheet", "--batch", 60)
    assert code == 0, errors
    with Image.open(tmp_path / "sheet" / "contact_sheet.png") as sheet:
        assert sheet.width > 10 * 120
    assert len(list((tmp_path / "sheet" / "evaluation" / "contact").glob("*.png"))) == 90  # nine captions there are


def test_a_contact_sheet_names_each_row_by_its_own_prompt():
    prompts = day_check.diverse(["a red dog", "a red cat", "two blue squares above", "a red dog", "a bench"], count=3)
    assert len(set(prompts)) == 3 and "two blue squares above" in prompts
    each = [p for p in prompts for _ in range(10)]
    tiles = day_check.contact_tiles([Path(f"{i}.png") for i in range(30)], each)
    assert [t.text for t in tiles if t.text] == prompts
    assert [t.text for t in tiles[::10]] == prompts


def test_memorised_pictures_are_found_and_shown(tmp_path, evaluate, weights):
    training = write_pictures(tmp_path / "training", 40, seed=1)
    held_out = write_pictures(tmp_path / "held-out", 100, seed=2)
    copies = write_pictures(tmp_path / "copies", 10, seed=3)
    for i in range(5):
        (copies / f"{i:03d}.png").write_bytes((training / f"{i + 7:03d}.png").read_bytes())
    options = ["--metrics", "memorised", "--reference", held_out, "--training", training]
    code, _, errors = evaluate(copies, *options, *given(weights, "dinov2"), "--out", "out")
    assert code == 0, errors
    found = json.loads((tmp_path / "out" / "score.json").read_text())["metrics"]["memorised"]
    assert found["value"] >= 0.5
    assert (tmp_path / "out" / "nearest.png").exists()
    code, _, errors = evaluate(held_out, *options, *given(weights, "dinov2"), "--out", "out")
    found = json.loads((tmp_path / "out" / "score.json").read_text())["metrics"]["memorised"]
    assert found["value"] == pytest.approx(0.01, abs=0.011)
    options[3] = training
    code, _, errors = evaluate(copies, *options, *given(weights, "dinov2"), "--out", "out")
    found = json.loads((tmp_path / "out" / "score.json").read_text())["metrics"]["memorised"]
    assert "100% of the reference pictures are training pictures" in found["warnings"][0]


def test_two_processes_evaluate_as_one(tmp_path, evaluate, scenes_run, weights):
    options = ["--metrics", "scenes,fid", "--count", "60", *given(weights, "inception"), "--out"]
    code, _, errors = evaluate(scenes_run, *options, "out1")
    assert code == 0, errors
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "daybreak"]
    command = [*launch, "evaluate", str(scenes_run), *options, "out2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONG, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "score.json").read_text()) for name in ("out1", "out2"))
    assert one["overall"] == two["overall"]
    assert one["metrics"]["fid"]["value"] == pytest.approx(two["metrics"]["fid"]["value"], rel=1e-6)
    assert two["about"]["processes"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ours", "--metrics", "fdi"], "--metrics is 'fdi'; it must be one of fid,"),
        (["ours", "--metrics", ","], "--metrics is ''; it must be one of fid,"),
        (["ours"], "ours: say what to measure with --metrics"),
        (["ours", "--metrics", "fid"], "FID compares with reference pictures: say where they are with --reference"),
        (["ours", "--metrics", "scenes"], "Scenes has its own prompts drawn, which a folder of pictures cannot do"),
        (["ours", "--metrics", "day_check", "--reference", "ours"], "The day's check needs --baseline"),
        (["ours", "--metrics", "memorised", "--reference", "ours"], "needs the training pictures: --training FOLDER"),
        (["ours", "--reference", "nowhere", "--metrics", "fid"], "--reference nowhere: no such folder"),
        (["ours", "--metrics", "is", "--weights", "inceptoin=x"], "--weights inceptoin=x: it should be NAME=FILE"),
        (["ours", "--metrics", "is", "--weights", "inception=x.pt"], "--weights inception=x.pt: no such file"),
        (["nowhere/at/all"], "nowhere/at/all: no such run folder, folder of pictures or diffusers pipeline"),
        (["ours/000.png"], "is a file; evaluate a run folder"),
        (["."], "holds no config.yaml"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, evaluate, words, message):
    if words != ["."]:
        write_pictures(tmp_path / "ours", 3, seed=1)
    code, _, errors = evaluate(*words)
    assert code == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


def test_too_few_pictures_for_a_frechet_distance_are_refused(tmp_path, evaluate, weights):
    ours = write_pictures(tmp_path / "ours", 20, seed=1)
    code, _, errors = evaluate(ours, "--metrics", "fid", "--reference", ours, *given(weights, "inception"))
    assert code == 2
    assert "FID over 20 pictures generated or given says nothing: at least 50 are needed" in errors


def test_prompts_come_from_a_file(tmp_path, evaluate, weights, scenes_run):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red circle"}\n{"caption": "a blue square"}\n')
    options = ["--metrics", "clipscore", "--count", 4, "--out", "out", *given(weights, "clip")]
    code, _, errors = evaluate(scenes_run, "--prompts", "p.jsonl", *options)
    assert code == 0, errors
    rows = (tmp_path / "out" / "evaluation" / "pictures" / "metadata.jsonl").read_text().splitlines()
    assert sorted(json.loads(r)["text"] for r in rows) == ["a blue square"] * 2 + ["a red circle"] * 2
    (tmp_path / "p.jsonl").write_text('{"words": "a red circle"}\n')
    code, _, errors = evaluate(scenes_run, "--prompts", "p.jsonl", *options)
    assert code == 2 and "p.jsonl, line 1 needs one of prompt, text, caption" in errors


def test_a_run_is_measured_while_it_trains(tmp_path, scenes_run, weights):
    base = tiny_config(evaluate__metrics="scenes,fid", evaluate__metrics_count=50, evaluate__metrics_every=1000)
    config = override(base, "evaluate.weights", f"inception={weights['inception']}")
    networks = load_averaged(scenes_run, config, torch.device("cpu"))
    values = during_training.measure(*networks, config, tmp_path, 3000, torch.device("cpu"))
    assert set(values) == {"scenes", "fid"} and values["fid"] > 0
    assert (tmp_path / "metrics" / "000000003000" / "score.json").exists()
    assert during_training.due(config, 2990, 3006) and not during_training.due(config, 3000, 3990)
    assert not during_training.due(tiny_config(), 0, 10**9)
    with pytest.raises(ConfigError, match="--evaluate.metrics is 'fdi'"):
        during_training.measurement_request(tiny_config(evaluate__metrics="fdi"))
