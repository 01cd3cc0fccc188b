"""`daybreak finetune` on tiny real pipelines: every method trains, resumes exactly, and leaves what others load."""

import io
import json
import math
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from rich.console import Console
from tiny import drawn, finetune, probes
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.commands.finetune import run_finetune
from daybreak.config import ConfigError
from daybreak.finetune import settings as settings_file
from daybreak.finetune.adapter_files import KOHYA, LORA
from daybreak.finetune.methods import weights
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.probes import Probe
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings


def told(*words) -> Any:
    """The JSON that a command prints."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.exception
    return json.loads(done.output)


def test_a_fine_tuned_pipeline_is_listed_and_compared_as_other_runs(full_run, base, finished_run, tmp_path):
    recipe = f"finetune {base} (full)"
    status = told("status", full_run)
    assert status["state"] == "finished" and status["recipe"] == recipe and status["probes"]["general"] > 0
    assert [run["recipe"] for run in told("runs", full_run.parent)] == [recipe]
    lower = shutil.copytree(full_run, tmp_path / "lower")
    (lower / "finetune.yaml").write_text((lower / "finetune.yaml").read_text().replace("lr: 0.003", "lr: 0.001"))
    compared = told("compare", full_run, lower)
    assert compared["settings_that_differ"] == {"lr": ["0.003", "0.001"]}
    both = told("compare", full_run, finished_run)
    assert [run["recipe"] for run in both["runs"]] == [recipe, "tiny"]


def test_full(full_run, base):
    first, last = probes(full_run)[0], probes(full_run)[-1]
    assert last["domain"] < 0.97 * first["domain"]
    pipeline = DiffusionPipeline.from_pretrained(full_run / "model")
    assert type(pipeline) is StableDiffusionPipeline
    stored = tiny.stored(full_run)
    for name, tensor in pipeline.unet.state_dict().items():
        assert torch.equal(tensor, stored[f"averaged.unet.{name}"])
    assert not torch.equal(drawn(pipeline), drawn(DiffusionPipeline.from_pretrained(base)))
    for name in ("samples/step-00000008.png", "samples/predictions-step-00000008.png",
                 "samples/attention-step-00000008.png", "data.html", "log.jsonl",
                 "held_out/metadata.jsonl"):  # fmt: skip
        assert (full_run / name).is_file(), name
    assert len(json.loads((full_run / "cache" / "index.json").read_text())["held_out"]) == 2


def test_what_tensorboard_shows(full_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(full_run / "tensorboard"), size_guidance={"images": 0}).Reload()
    for name in ("loss/total", "learning_rate/denoiser", "gradient_norm", "epochs"):
        assert [e.step for e in board.Scalars(name)] == list(range(1, 9)), name
    for name in ("probe/general", "probe/domain_change"):
        assert [e.step for e in board.Scalars(name)] == [0, 8], name
    assert {"samples", "predictions", "attention"} <= set(board.Tags()["images"])


def test_stopped_and_resumed_on_changed_pictures_it_ends_in_the_same_weights_and_says_so(
    full_run, base, pictures, tmp_path
):
    run = tmp_path / "run"
    pictures = shutil.copytree(pictures, tmp_path / "pictures")
    stop_at_step_3(run)
    stopped = finetune(base, pictures, run, lr=3e-3, flip=True, offset_noise=0.05, micro_batch=3, save_every=100)
    assert 3 <= stopped.step < 8 and not (run / "model").exists()
    (pictures / "000.png").unlink()
    (pictures / "001.txt").write_text("the big dog")
    told = Console(file=io.StringIO())
    run_finetune(told, settings_file.load(run), run, resume=True)
    assert "began with (1 gone, 1 with other captions); it goes on with those it began with" in " ".join(
        told.file.getvalue().split()
    )
    tiny.check_same(run, full_run)
    assert [p["step"] for p in probes(run)] == [0, 8]


def stop_at_step_3(run):
    def stop():
        while not (run / "log.jsonl").exists() or '"step": 3' not in (run / "log.jsonl").read_text():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()


@pytest.mark.slow  # torchao compiles its step
def test_moments_in_8_bits_train_and_resume(base, pictures, tmp_path):
    pytest.importorskip("torchao", reason="pip install 'daybreak[quant]'")
    settings = {"lr": 3e-3, "adam_8bit": True, "save_every": 100, "steps": 12}
    whole = finetune(base, pictures, tmp_path / "whole", **settings)
    moments = {type(s["exp_avg"]).__name__ for s in whole.optimizers[0].state.values()}
    assert "OptimState8bit" in moments  # of the tensors that are large enough
    run = tmp_path / "run"
    stop_at_step_3(run)
    assert finetune(base, pictures, run, **settings).step < 12
    run_finetune(Console(quiet=True), settings_file.load(run), run, resume=True)
    tiny.check_same(run, tmp_path / "whole")


@pytest.mark.parametrize(
    "method, text", [("lora", False), pytest.param("dora", False, marks=pytest.mark.slow), ("lora", True)]
)
def test_low_rank_files_load_in_plain_diffusers(base, pictures, tmp_path, method, text):
    changes = {"method": method, "rank": 4, "alpha": 8.0, "lr": 2e-2, "train_text_encoder": text}
    run = finetune(base, pictures, tmp_path / "run", **changes)
    assert probes(run.folder)[-1]["domain"] < probes(run.folder)[0]["domain"]
    with run.base.averages.in_place():
        expected = drawn(run.base.family.pipeline)
    plain = drawn(StableDiffusionPipeline.from_pretrained(base))
    assert (expected - plain).abs().max() > 1e-3
    for name in (LORA, KOHYA) if method == "lora" else (LORA,):
        pipeline = StableDiffusionPipeline.from_pretrained(base)
        pipeline.load_lora_weights(run.folder / "lora", weight_name=name)
        assert torch.allclose(drawn(pipeline), expected, atol=1e-5), name
    assert torch.allclose(drawn(open_result(run.folder)), expected, atol=1e-5)


def test_textual_inversion(base, pictures, tmp_path):
    changes = {"method": "textual-inversion", "token": "<x>", "init_word": "red", "vectors": 2, "lr": 0.1}
    changes |= {"steps": 40, "batch": 16, "ema": 0.9, "sample_every": 1000}  # a random network hardly hears one word
    run = finetune(base, pictures, tmp_path / "run", **changes)
    # Two held-out pictures say little of one word in a random network: the training pictures, with fixed noise.
    rows = [run.cache.training[i] for i in range(16)]
    probe = Probe.of([run.cache.row(i) for i in rows], [run.cache.captions[i] for i in rows], run.base.process, 4)
    fresh = {k: p.detach() for k, p in open_prepared(run.settings, run.base.device).trained.parameters.items()}
    losses = []
    for tensors in (fresh, run.base.averages.tensors):
        with weights(run.base.trained, tensors):
            losses.append(probe.loss(run.base.family, run.base.process, run.text_of, run.base.device))
    assert losses[1] < losses[0]
    with run.base.averages.in_place():
        expected = drawn(run.base.family.pipeline, "a <x> dog")
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    before = pipeline.text_encoder.get_input_embeddings().weight.clone()
    pipeline.load_textual_inversion(str(run.folder / "embedding" / "learned_embeds.safetensors"), token="<x>")
    assert torch.allclose(drawn(pipeline, "a <x> dog"), expected, atol=1e-5)
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight[: len(before)], before)


def test_dreambooth_keeps_the_class(base, pictures, tmp_path):
    changes = {"instance_prompt": "a photo of red dog", "class_prompt": "a dog", "class_count": 4, "steps": 2}
    run = finetune(base, pictures, tmp_path / "run", **changes)
    assert len(list((run.folder / "class").glob("*.png"))) == 4
    assert set(run.cache.captions) == {"a photo of red dog", "a dog"}
    rows = run.order.rows(0)
    assert run.order.own == 4 and set(rows[4:]) <= set(run.cache.prior) and set(rows[:4]) <= set(run.cache.training)


@pytest.mark.parametrize("save", [pytest.param(tiny.save_sdxl, marks=pytest.mark.slow), tiny.save_sd3, tiny.save_flux])
def test_other_families(save, pictures, tmp_path):
    base = save(tmp_path / "base")
    run = finetune(base, pictures, tmp_path / "run", method="lora", rank=4, lr=2e-2, resolution=16)
    assert probes(run.folder)[-1]["domain"] < probes(run.folder)[0]["domain"]
    with run.base.averages.in_place():
        expected = drawn(run.base.family.pipeline)
    pipeline = DiffusionPipeline.from_pretrained(base)
    pipeline.load_lora_weights(run.folder / "lora", weight_name=LORA)
    assert torch.allclose(drawn(pipeline), expected, atol=1e-5)


def test_v_prediction_with_zero_terminal_snr(pictures, tmp_path):
    base = tiny.save_sd(tmp_path / "base", "v_prediction")
    run = finetune(base, pictures, tmp_path / "run", zero_snr=True, min_snr=5.0, lr=3e-3, steps=2)
    assert run.base.process.abar[-1] == 0
    scheduler = DiffusionPipeline.from_pretrained(run.folder / "model").scheduler
    assert scheduler.config.rescale_betas_zero_snr and scheduler.config.timestep_spacing == "trailing"


def test_what_is_wrong_is_said_before_training(base, pictures, tmp_path):
    for changes, words in (
        ({"zero_snr": True}, "v-prediction"),
        ({"resolution": 15}, "--resolution 15 does not divide by 8"),
        ({"method": "lora", "targets": ("to_x",)}, "--target to_x: no such layer"),
        ({"method": "textual-inversion", "token": "a"}, "knows it already"),
        ({"lr": 0.0}, "--lr is 0"),
        ({"epochs": math.inf}, "--epochs is inf; it must be a number"),
        ({"guidance": math.inf}, "--guidance is inf; it must be a number"),
        ({"rank": 4}, "--rank has no effect without --method lora, dora, loha or lokr"),
        ({"text_lr": 1e-5}, "--text-lr has no effect without --train-text-encoder"),
        ({"class_count": 9}, "--class-count has no effect without --class-prompt"),
    ):
        with pytest.raises(ConfigError, match=words):
            finetune(base, pictures, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="no hub id"):
        finetune(tmp_path / "nothing", pictures, tmp_path / "run")


def test_pickles_are_refused_unless_asked_for(base, pictures, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(ConfigError, match="is a pickle.*--allow-pickle"):
        finetune(tmp_path / "pickled", pictures, tmp_path / "run")
    with pytest.raises(ConfigError, match="is a pickle"):
        (tmp_path / "model.ckpt").write_bytes(b"")
        finetune(tmp_path / "model.ckpt", pictures, tmp_path / "run")


def test_settings_survive_their_file(tmp_path):
    settings = FinetuneSettings(base="a/b", data="c", prompts=("x", "y"), min_snr=5.0, background=(1, 2, 3))
    settings_file.save(settings, tmp_path)
    assert settings_file.load(tmp_path) == settings
    assert replace(settings, lr=None).learning_rate == 5e-6
