"""A model that is no PRX: diffusers draws our pictures with the code in the folder, and daybreak reads it back."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.commands.export import run_export, run_import
from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.request import Drawing
from daybreak.export.licences import Licences
from daybreak.formats.open import open_model
from daybreak.formats.own_folder import write_own
from daybreak.formats.run import load_averaged
from daybreak.model.transformer import Transformer
from daybreak.model_folder import is_pipeline, kind_of
from daybreak.sampling.generate import generate
from daybreak.serve.native import NativeModel
from daybreak.serve.open import open_served
from daybreak.serve.settings import ServeSettings
from daybreak.subjects import open_subject
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.export.test_export import CPU, PROMPTS, change_json, copy_of
from tests.formats.test_prx_keys import randomize
from tests.waiting import LONG

DTYPES = ("float32", "float16", "bfloat16")

PLAIN_DIFFUSERS = """
import gc, json, sys
gc.disable()  # libraries load a fifth faster
import numpy as np, torch
from diffusers import DiffusionPipeline

sys.modules["daybreak"] = None  # importing it fails here, wherever it is installed
folders, prompts, seed = map(json.loads, sys.argv[1:4])
for dtype, folder in folders.items():
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    assert {p.dtype for p in pipeline.transformer.parameters()} == {getattr(torch, dtype)}
    generators = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(len(prompts))]
    pictures = pipeline(prompts, generator=generators, output_type="pt").images
    np.save(dtype + ".npy", pictures.float().numpy() * 2 - 1)
    pictures = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)(prompts[0], output_type="pt").images
    assert pictures.isfinite().all()  # as the card says, without a dtype
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of a few steps with the parts of scenes-demo."""
    config = tiny_config(
        model__convolutions=[8, 12], model__text_convolutions=1, model__pooled_text=True, model__grounding=True,
        grounding__weight=1.0, data__dense=0.9, text__depth=0, text__max_tokens=96, train__steps=20,
        train__sample_every=1.0, sample__steps=5, sample__guidance=1.5, sample__expand="scenes",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("own") / "run"
    train(config, folder, [])
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> dict[str, Path]:
    """The run in each number format."""
    folders = {dtype: tmp_path_factory.mktemp("exported") / dtype for dtype in DTYPES}
    for dtype, folder in folders.items():
        run_export(Console(), run, "diffusers", folder, dtype, Licences())
    return folders


def as_given(config: Config) -> Config:
    """Without writing prompts out, which the pipeline does not."""
    return configs.override(config, "sample.expand", "none")


def test_diffusers_draws_our_pictures_without_daybreak(run, exported, tmp_path):
    config = as_given(configs.load(run / "config.yaml"))
    ours = generate(*load_averaged(run, config, CPU), PROMPTS, config, seed=7)
    assert ours.std() > 0.1
    assert (ours[0] - ours[1]).abs().max() > 0.01
    arguments = [json.dumps({d: str(f) for d, f in exported.items()}), json.dumps(PROMPTS), "7"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_DIFFUSERS, *arguments],
        cwd=tmp_path, env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""},
        capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for dtype, most in {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.15}.items():
        theirs = torch.from_numpy(np.load(tmp_path / f"{dtype}.npy"))
        assert (ours - theirs).abs().max() <= most, dtype


def test_it_is_read_back_exactly_and_trains_on(run, exported, tmp_path):
    folder = exported["float32"]
    assert kind_of(folder) == "own" and not is_pipeline(folder)
    config = configs.load(run / "config.yaml")
    before = load_averaged(run, config, CPU)
    *after, back = open_model(folder, CPU)
    assert (back.model, back.sample) == (config.model, config.sample)
    for a, b in zip(before, after, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    run_import(Console(), folder, tmp_path / "start", None)
    again = configs.override(configs.load(tmp_path / "start" / "config.yaml"), "train.steps", 2)
    assert train(again, tmp_path / "start", [], resume=True).step == 2


def test_a_detail_head_is_there_again(tmp_path):
    config = tiny_config(model__detail=8)
    text_encoder = TextEncoder.create(PROMPTS, config.text).eval()
    transformer = Transformer(config.model, text_encoder.width).eval()
    randomize(transformer)
    write_own(transformer, text_encoder, config, tmp_path / "out", torch.float32)
    *networks, back = open_model(tmp_path / "out", CPU)
    assert kind_of(tmp_path / "out") == "own" and back.model == config.model
    drawn = generate(transformer, text_encoder, PROMPTS, config, seed=7)
    assert torch.equal(generate(*networks, PROMPTS, back, seed=7), drawn)


def test_it_is_imported_for_other_pictures(exported, tmp_path):
    """What only captions of scenes have is left out: boxes of phrases, dense captions, the rules that write prompts."""
    (pictures := tmp_path / "pictures").mkdir()
    run_import(Console(), exported["float32"], tmp_path / "start", pictures)
    config = configs.load(tmp_path / "start" / "config.yaml")
    assert (config.data.source, config.data.dense, config.grounding.weight, config.sample.expand) == (
        "folder",
        0,
        0,
        None,
    )
    assert config.model.grounding


def test_it_is_served_and_evaluated_with_our_own_code(run, exported):
    served = open_served(f"name={exported['float16']}", ServeSettings(), CPU)
    assert isinstance(served, NativeModel) and served.info.steps == 5
    ours = open_subject(str(run), Drawing(steps=2), CPU)
    theirs = open_subject(str(exported["float32"]), Drawing(steps=2), CPU)
    assert theirs.run is None and theirs.config is not None
    assert torch.equal(ours.drawer.draw(PROMPTS, 3), theirs.drawer.draw(PROMPTS, 3))


def test_the_card_says_that_code_runs_and_shows_a_prompt_written_out(exported):
    card = (exported["float16"] / "README.md").read_text()
    for words in ("trust_remote_code=True)", "runs on your machine", "pip install", "5 steps with a guidance of 1.5",
                  "written out", "stored as float16", "transformer/daybreak_transformer.py"):  # fmt: skip
        assert words in card
    assert re.search(r'image = pipeline\(\n    "a .*% (across|from the left)', card)


def test_routed_guidance_is_said_to_differ(run, tmp_path, capsys):
    config = configs.load(run / "config.yaml")
    copy = copy_of(run, tmp_path / "run")
    changes = {"sample.guidance_kind": "routed", "routing.keep": 0.5, "routing.start": 0}
    for key, value in changes.items():
        config = configs.override(config, key, value)
    configs.save(config, copy / "config.yaml")
    run_export(Console(width=200), copy, "diffusers", tmp_path / "out", "float32", Licences())
    assert "guidance is routed, the pipeline's classifier-free" in capsys.readouterr().out
    assert "Not the same to the last digit" in (tmp_path / "out" / "README.md").read_text()


def test_a_damaged_folder_gets_one_line(exported, tmp_path):
    def fails(folder: Path, words: str) -> None:
        with pytest.raises(ConfigError, match=words) as e:
            open_model(folder, CPU)
        assert "\n" not in str(e.value)

    other = copy_of(exported["float32"], tmp_path / "other")
    (other / "daybreak.yaml").rename(other / "gone.yaml")
    fails(other, "daybreak.yaml")
    cut = copy_of(exported["float32"], tmp_path / "cut")
    weights = cut / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    fails(cut, "damaged or missing")
    stranger = copy_of(exported["float32"], tmp_path / "stranger")
    change_json(stranger / "model_index.json", _class_name=["pipeline", "SomeoneElses"])
    assert kind_of(stranger) == "pipeline"
