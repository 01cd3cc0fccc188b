"""What a run leaves is sampled, exported, served and compared; the report; the finder; advice; our own runs."""

import io
import json
import re
import shutil
import socket
from dataclasses import replace

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from rich.console import Console

from daybreak.commands.export import run_export
from daybreak.commands.finetune import resume_finetune
from daybreak.commands.finetune_own import finetune_own
from daybreak.commands.sample import run_sample
from daybreak.config import ConfigError, load, override
from daybreak.evaluate.request import Drawing
from daybreak.export.licences import Licences
from daybreak.finetune import settings as settings_file
from daybreak.finetune.adapters import adapters_of, difference
from daybreak.finetune.advice import Adviser
from daybreak.finetune.opening import write_general
from daybreak.finetune.own_report import OwnModel
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.probes import drift
from daybreak.finetune.report import verdict
from daybreak.finetune.result import merge, open_result, save_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.formats.open import open_model
from daybreak.model_folder import is_own, model_folder
from daybreak.serve.jobs import Job, Order
from daybreak.serve.open import open_served
from daybreak.serve.settings import ServeSettings
from daybreak.train import checkpoint
from daybreak.vote import study as studies
from daybreak.vote.contestants import draw as draw_contestant
from daybreak.vote.contestants import is_run
from daybreak.vote.votes import Votes
from tests.conftest import empty_cache
from tests.frozen import frozen_in
from tests.in_process import here

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def lora_run(base, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("lora") / "run"
    tiny.finetune(base, pictures, out, method="lora", rank=4, lr=2e-2, steps=4)
    return out


def test_sample_and_export(lora_run, tmp_path):
    run_sample(QUIET, lora_run, ["a red circle", "a dog"], tmp_path / "grid.png", Drawing(0, 1))
    assert Image.open(tmp_path / "grid.png").width > 300
    run_export(QUIET, lora_run, "diffusers", tmp_path / "exported", "float32", Licences(None, None))
    merged = DiffusionPipeline.from_pretrained(tmp_path / "exported")
    assert not any("lora" in name for name in merged.unet.state_dict())
    assert torch.allclose(tiny.drawn(merged), tiny.drawn(open_result(lora_run)), atol=1e-5)
    with pytest.raises(ConfigError, match="--to diffusers"):
        run_export(QUIET, lora_run, "safetensors", tmp_path / "other", "float32", Licences(None, None))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_text_encoders_come_back_with_every_adapter_tensor(base, tmp_path, method):
    settings = FinetuneSettings(
        base=str(base), data="-", method=method, rank=4, alpha=8.0, train_text_encoder=True, ema=0.0
    )
    base, noise = open_prepared(settings, torch.device("cpu")), torch.Generator().manual_seed(0)
    for parameter in base.trained.parameters.values():  # as if trained: also DoRA's magnitudes
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=noise)
    settings_file.save(settings, tmp_path)
    save_result(base, tmp_path)
    again = open_result(tmp_path)
    for name in ("unet", "text_encoder"):
        trained, found = (adapters_of(getattr(p, name)) for p in (base.family.pipeline, again))
        assert difference(trained, found) is None and found
        assert all((a.magnitude is not None) == (method == "dora") for a in found.values())
    base.family.network.eval()
    base.family.pipeline.text_encoder.eval()
    expected = tiny.drawn(base.family.pipeline)
    assert torch.allclose(tiny.drawn(again), expected, atol=1e-5)
    merge(again)  # as export does
    assert not any("lora_" in name for part in (again.unet, again.text_encoder) for name in part.state_dict())
    assert torch.allclose(tiny.drawn(again), expected, atol=1e-5)


def test_serve_and_compare_blind(lora_run, full_run, tmp_path):
    model = open_served(f"mine={lora_run}", ServeSettings(), torch.device("cpu"))
    (row,) = model.begin([Job(Order("mine", "a dog", 16, 16, 1, 1.0, 3), lambda _e: None, float("inf"))])
    model.advance([row])
    assert row.pixels is not None and row.pixels.shape == (16, 16, 3)
    assert is_run(full_run)
    found = draw_contestant(full_run, ["a dog", "a red circle"], 5, tmp_path / "drawn", lambda _: None)
    assert [p.prompt for p in found] == ["a dog", "a red circle"] and found[1].path.is_file()


def test_compare_blind_with_an_adapter_from_pictures_to_results(base, lora_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "prompts.txt").write_text("a dog\na red circle\n")
    words = ["compare-blind", base, "--lora", f"{lora_run}:0.5", "--prompts", "prompts.txt", "--out", "study"]
    with socket.socket() as taken:  # so that it ends where its server would begin
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = here([*words, "--port", taken.getsockname()[1]], tmp_path, monkeypatch, capsys)
    assert "cannot be taken" in done.stderr
    study = studies.load(tmp_path / "study")
    plain, adapted = study.contestants
    assert plain == base.name and adapted.startswith(f"{plain} with ") and adapted.endswith(":0.5")
    for item in range(2):
        drawn = [studies.picture_path(tmp_path / "study", item, number).read_bytes() for number in (0, 1)]
        assert drawn[0] != drawn[1]
    book = Votes(tmp_path / "study" / "votes.sqlite", study.questions)
    for step, pair in enumerate(book.pairs(1)):
        assert book.cast(1, step, "left" if pair.left == 1 else "right", f"submission-{step}", 2.0)
    book.close()
    told = here(["compare-blind", "--results", "study"], tmp_path, monkeypatch, capsys).stdout
    assert re.search(rf"{re.escape(plain)} against {re.escape(adapted)} +0 +0 +2 +0%", told), told


def test_report(base, tmp_path, monkeypatch):
    from tests.evaluate import tiny_models

    monkeypatch.setenv("DAYBREAK_CACHE", str(empty_cache(tmp_path)))
    weights = {
        "inception": tiny_models.save_inception(tmp_path / "small.pt"),
        "clip": tiny_models.save_clip(tmp_path / "clip"),
        "dinov2": tiny_models.save_dinov2(tmp_path / "dinov2"),
    }
    pictures = tiny.write_pictures(tmp_path / "many", 108)
    run = tiny.finetune(
        base, pictures, tmp_path / "run", lr=3e-3, steps=4, held_out=0.5, report=True, report_pictures=54, guidance=1.0,
        metric_weights=tuple(f"{k}={v}" for k, v in weights.items()),
    )  # fmt: skip
    found = json.loads((run.folder / "report" / "report.json").read_text())
    for metric in ("fid", "kid", "clipscore", "memorised"):
        assert metric in found["tuned"], found["tuned"]["not measured"]
    assert found["losses"]["domain"]["change"] < 0
    assert any("the domain was gained" in line for line in found["verdict"])
    assert any("FID" in line for line in found["verdict"])
    page = frozen_in(run.folder / "report.html")
    shown = page["told"]["still"]["finetuned"]
    assert shown["verdict"] == found["verdict"] and len(shown["contact"]) == 40  # four captions
    for pair in (*shown["contact"], *shown["general"]):
        assert pair["file"] in page["files"] and pair["other"] in page["files"]
    assert "FID" in (run.folder / "report" / "report.md").read_text()
    # The base's figures are of the base: its own drawing gives the same.
    assert found["base_model"]["fid"] != found["tuned"]["fid"]


@pytest.mark.slow
def test_the_finder_suggests_a_rate_below_where_it_diverges(base, pictures, tmp_path):
    tiny.finetune(base, pictures, tmp_path / "run", find_lr=True, method="lora", rank=4, lr=1e-3)
    found = json.loads((tmp_path / "run" / "lr.json").read_text())
    losses = [loss for _, loss in found["curve"]]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    assert found["suggestion"] == pytest.approx(found["curve"][lowest][0] / 10)
    assert losses[lowest] < losses[0] and (tmp_path / "run" / "lr.png").is_file()


def test_our_own_runs_are_a_base(finished_run, pictures, tmp_path):
    assert is_own(str(finished_run))
    run = tmp_path / "run"
    settings = FinetuneSettings(
        base=str(finished_run), data=str(pictures), steps=20, batch=4, lr=1e-2, ema=0.5, warmup_steps=0,
        deadline_minutes=60, minutes=90, prompts=("a square, red",),
        general_prompts=("a blue square", "two red circles"), report_pictures=2,
        metric_weights=(f"inception={tmp_path / 'none.pt'}", f"clip={tmp_path}", f"dinov2={tmp_path}"),
    )  # fmt: skip
    settings = replace(settings, data=str(shutil.copytree(pictures, tmp_path / "pictures")))
    finetune_own(QUIET, settings, run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log if r["event"] == "step"] == list(range(1, 21))
    config = load(run / "config.yaml")
    assert config.evaluate.grid_prompts == ("a square, red",) and config.train.minutes == 90
    assert 0.5 < config.budget.hours < 1  # the rest of the hour is for the report
    rows = [json.loads(line) for line in (run / "training" / "metadata.jsonl").read_text().splitlines()]
    held = [json.loads(line)["key"] for line in (run / "held_out.jsonl").read_text().splitlines()]
    assert len(rows) == 22 and len(held) == 2 and not {r["file_name"] for r in rows} & set(held)
    found = json.loads((run / "report" / "report.json").read_text())
    assert found["losses"]["domain"]["change"] < -0.01 and found["losses"]["general"]["change"] != 0
    assert any("the domain was gained" in line for line in found["verdict"])
    assert "fid" in found["tuned"]["not measured"] and (run / "report" / "general.png").is_file()
    before, after = (Image.open(f / "00000.png").tobytes() for f in (run / "general", run / "report" / "general"))
    assert before != after and found["drift"] > 0
    shutil.rmtree(checkpoint.newest(run))
    shutil.rmtree(run / "report")
    tiny.write_pictures(tmp_path / "more", 12, seed=1)
    shutil.copytree(tmp_path / "more", tmp_path / "pictures" / "more")  # held out are those that were, all the same
    told = Console(file=io.StringIO())
    resume_finetune(told, run)  # from the checkpoint before the last: the base's weights
    assert "began with (12 new); it goes on with those that" in " ".join(told.file.getvalue().split())
    again = json.loads((run / "report" / "report.json").read_text())
    assert again["losses"] == found["losses"] and again["drift"] == found["drift"]
    assert not is_own(str(tiny.save_prx_pixel(tmp_path / "published")))  # by another's hand: a pipeline like others
    with pytest.raises(ConfigError, match="--method full"):
        finetune_own(
            QUIET,
            FinetuneSettings(base=str(finished_run), data="x", method="textual-inversion", token="<x>"),
            tmp_path / "other",
        )
    for flag, setting in (("--min-snr", {"min_snr": 5.0}), ("--save-every", {"save_every": 9})):
        with pytest.raises(ConfigError, match=f"{flag} has no effect"):
            finetune_own(QUIET, FinetuneSettings(base=str(finished_run), data="x", **setting), tmp_path / "other")


def test_what_a_base_forgot_is_told_in_prompts_followed():
    transformer, text_encoder, config = open_model(model_folder("scenes"), torch.device("cpu"))
    for key, value in (("evaluate.prompts_per_task", 2), ("evaluate.held_out_prompts", 2), ("sample.steps", 8)):
        config = override(config, key, value)
    base = OwnModel(transformer, text_encoder, config, torch.device("cpu")).follows()
    assert base is not None and base["overall"] > 0.8
    with torch.no_grad():
        for p in transformer.decoder.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    tuned = OwnModel(transformer, text_encoder, config, torch.device("cpu")).follows()
    assert tuned is not None and tuned["overall"] < 0.2
    found = {"losses": {"general": {"change": 2.0}}, "drift": 0.5, "base_model": {"follows": base}}
    said = verdict({**found, "tuned": {"follows": tuned}})
    assert f"are followed, {base['overall']:.0%} by the base" in said[-1]
    small = OwnModel(transformer, text_encoder, override(config, "data.resolution", 16), torch.device("cpu"))
    assert small.follows() is None  # too small for the judge


def test_drift_is_one_where_pictures_are_as_far_as_those_of_other_prompts(tmp_path):
    drawn = torch.stack([torch.full((3, 16, 16), v) for v in (-1.0, 1.0)])
    write_general(drawn, ["a dog", "a bus"], tmp_path / "general")
    assert drift(tmp_path, drawn) == pytest.approx(0, abs=0.01)
    assert drift(tmp_path, drawn.flip(0)) == pytest.approx(1, abs=0.01)
    assert drift(tmp_path, drawn[1:]) == pytest.approx(1, abs=0.01)  # only the first prompt's


def test_advice_rings_for_what_it_is_about_and_not_before():
    adviser = Adviser()
    calm = [a for i in range(150) for a in adviser.after_step(i, 0.1, 1.0 + 0.1 * (i % 3), i / 10, 1.0)]
    assert calm == []
    spiky = [a.alarm for i in range(150, 160) for a in adviser.after_step(i, 0.1, 20.0, 15.0, 1.0)]
    assert spiky == ["spikes"]  # once
    slow = Adviser()
    rang = [a.alarm for i in range(150) for a in slow.after_step(i, 0.5, 1.0, i / 10, 1.0)]
    assert rang == ["stuck"]
    high = Adviser()
    start = {"general": 1.0, "domain": 1.0}
    assert high.after_probe(1, start, {"general": 1.0, "domain": 0.9}, 1.0) == []
    assert not [a for i in range(150) for a in high.after_step(i, 0.5, 1.0, i / 10, 1.0)]  # high, but it learns
    assert [a.alarm for a in Adviser().after_probe(5, start, {"general": 1.0, "domain": 0.9}, 1.0, 0.7)] == ["drift"]
    assert [a.alarm for a in Adviser().after_probe(5, start, {"general": 1.2, "domain": 0.9}, 1.0)] == ["forgetting"]
    assert [a.alarm for a in Adviser().after_probe(5, start, {"general": 1.0, "domain": 1.0}, 6.0)] == ["no gain"]
    late = Adviser()
    assert late.after_probe(5, start, {"general": 1.0, "domain": 0.8}, 1.0) == []
    assert [a.alarm for a in late.after_probe(9, start, {"general": 1.0, "domain": 0.9}, 2.0)] == ["overfitting"]
