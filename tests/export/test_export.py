"""Exported folders: plain diffusers draws our pictures from them; import makes a run of them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from daybreak import config as configs
from daybreak.commands.export import run_export, run_import
from daybreak.config import ConfigError
from daybreak.export.licences import Licences
from daybreak.formats.diffusers_folder import differences
from daybreak.formats.open import open_model
from daybreak.formats.run import load_averaged
from daybreak.sampling.generate import generate
from daybreak.train import checkpoint
from daybreak.train.loop import train
from tests.making import captioned_folder
from tests.waiting import LONG

CPU = torch.device("cpu")
PROMPTS = ["a large red circle", "two small blue squares above a green triangle"]

PLAIN_DIFFUSERS = """
import gc, json, sys
gc.disable()  # libraries load a fifth faster
import numpy as np, torch
from diffusers import DiffusionPipeline

sys.modules["daybreak"] = None  # importing it fails here, wherever it is installed
folder, out, steps, guidance, prompts = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:6])
pipeline = DiffusionPipeline.from_pretrained(folder)
pipeline.set_progress_bar_config(disable=True)
size = pipeline.config.default_sample_size
pictures = []
for i, prompt in enumerate(prompts):
    noise = torch.randn(3, size, size, generator=torch.Generator().manual_seed(7 * 1_000_003 + i))
    pictures.append(pipeline(prompt, num_inference_steps=steps, guidance_scale=guidance,
                             latents=noise[None] * pipeline.config.noise_scale,
                             use_resolution_binning=False, output_type="pt").images[0])
np.save(out, torch.stack(pictures).clamp(-1, 1).numpy())
"""


def draw_with_plain_diffusers(folder: Path, out: Path, steps: int, guidance: float) -> torch.Tensor:
    """In a process of its own, from an empty folder, where daybreak can't be imported."""
    out.parent.mkdir(exist_ok=True)
    arguments = [str(folder), str(out), *map(json.dumps, (steps, guidance, PROMPTS))]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_DIFFUSERS, *arguments],
        cwd=out.parent, capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(np.load(out))


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory) -> Path:
    """The finished run with a score."""
    folder = copy_of(finished_run, tmp_path_factory.mktemp("scored") / "run")
    (folder / "score.json").write_text('{"overall": 0.25}')
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    run_export(Console(), run, "diffusers", folder, "float32", Licences("apache-2.0", "cc0-1.0"))
    return folder


@pytest.fixture(scope="module")
def plain(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    run_export(Console(), run, "safetensors", folder, "float32", Licences())
    return folder


def test_plain_diffusers_draws_our_pictures(run, exported, tmp_path):
    config = configs.load(run / "config.yaml")
    assert differences(config) == []
    ours = generate(*load_averaged(run, config, CPU), PROMPTS, config, seed=7)
    theirs = draw_with_plain_diffusers(exported, tmp_path / "there" / "pictures.npy", 5, config.sample.guidance)
    assert ours.std() > 0.1
    assert (ours[0] - ours[1]).abs().max() > 0.01
    assert (ours - theirs).abs().max() <= 1e-4


def test_what_diffusers_cannot_follow_is_said(run):
    config = configs.load(run / "config.yaml")
    for key, value, words in [
        ("sample.sampler", "heun", "samples with heun"),
        ("sample.guidance_from", 0.2, "guides only for t"),
        ("diffusion.shift", 1.3, "within one percent"),
        ("sample.steps", 400, "floor of 0.05"),
    ]:
        assert words in "; ".join(differences(configs.override(config, key, value)))


def test_the_card_states_recipe_data_scores_cost_and_licence(run, exported):
    folder = exported.parent / "scored"
    run_export(Console(), run, "diffusers", folder, "bfloat16", Licences("apache-2.0", "cc0-1.0"))
    card = (folder / "README.md").read_text()
    head, body = card.split("---\n")[1:3]
    assert "license: apache-2.0" in head
    assert "pipeline_tag: text-to-image" in head
    for words in ("overall | 25.0%", "20 steps", "160 pictures seen", "cc0-1.0", "num_inference_steps=5", "synthetic"):
        assert words in body
    assert (folder / "samples.png").stat().st_size > 1000
    weights = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.bfloat16}


def test_an_exported_folder_does_not_tell_where_the_data_were(run, tmp_path):
    config = configs.load(run / "config.yaml")
    secret = replace(config, data=replace(config.data, source="folder", folder="/home/someone/cats"))
    copy = tmp_path / "run"
    checkpoint.save(checkpoint.resume(run, config, CPU), copy)
    configs.save(secret, copy / "config.yaml")
    for to in ("diffusers", "safetensors"):
        run_export(Console(), copy, to, tmp_path / to, "float32", Licences())
        text = "".join(p.read_bytes().decode("latin1") for p in (tmp_path / to).rglob("*") if p.is_file())
        assert "someone" not in text
        assert "`cats`" in text


@pytest.mark.parametrize("form", ["exported", "plain"])
def test_import_gives_the_same_networks_and_trains_on(form, run, request, tmp_path):
    folder = request.getfixturevalue(form)
    run_import(Console(), folder, tmp_path / "start", None)
    config = configs.load(tmp_path / "start" / "config.yaml")
    before = load_averaged(run, config, CPU)
    after = load_averaged(tmp_path / "start", config, CPU)
    for a, b in zip(before, after, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    state = train(configs.override(config, "train.steps", 2), tmp_path / "start", [], resume=True)
    assert state.step == 2
    assert any(
        not torch.equal(p, q) for p, q in zip(state.transformer.parameters(), before[0].parameters(), strict=True)
    )


def test_a_demo_goes_on_with_a_folder_of_pictures(demo_run, tmp_path):
    """What only scenes have is left out; the network stays as it is, words with a place included."""
    run_export(Console(), demo_run, "safetensors", tmp_path / "plain", "float32", Licences())
    pictures = captioned_folder(tmp_path / "pictures", 6, (40, 40))
    run_import(Console(), tmp_path / "plain", tmp_path / "start", pictures)
    config = configs.load(tmp_path / "start" / "config.yaml")
    assert (config.grounding.weight, config.data.dense, config.sample.expand) == (0.0, 0.0, None)
    assert config.model == configs.load(demo_run / "config.yaml").model
    before = load_averaged(demo_run, config, CPU)
    after = load_averaged(tmp_path / "start", config, CPU)
    for a, b in zip(before, after, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert train(configs.override(config, "train.steps", 2), tmp_path / "start", [], resume=True).step == 2


def test_a_foreign_prx_folder_is_understood_without_our_config(exported, tmp_path):
    foreign = copy_of(exported, tmp_path / "foreign")
    (foreign / "daybreak.yaml").unlink()
    transformer, _, config = open_model(foreign, CPU)
    ours, _, own = open_model(exported, CPU)
    assert all(torch.equal(p, q) for p, q in zip(transformer.parameters(), ours.parameters(), strict=True))
    assert config.model == own.model
    assert config.data.resolution == own.data.resolution
    assert (config.diffusion.shift, config.diffusion.noise_scale) == (2.0, 1.0)
    with pytest.raises(ConfigError, match="--data FOLDER"):
        run_import(Console(), foreign, tmp_path / "run", None)
    (pictures := tmp_path / "pictures").mkdir()
    with pytest.raises(ConfigError, match="--data .*nowhere: no such folder"):
        run_import(Console(), foreign, tmp_path / "run", tmp_path / "nowhere")
    run_import(Console(), foreign, tmp_path / "run", pictures)
    assert configs.load(tmp_path / "run" / "config.yaml").data.folder == str(pictures)


def test_wrong_folders_get_one_line(run, exported, plain, tmp_path):
    def fails(folder: Path, words: str) -> None:
        with pytest.raises(ConfigError) as e:
            run_import(Console(), folder, tmp_path / "out", None)
        assert words in str(e.value)
        assert "\n" not in str(e.value)
        assert not (tmp_path / "out").exists()

    fails(tmp_path / "nowhere", "no such folder")
    fails(tmp_path, "is no model")
    fails(run, "is a run already")
    latent = copy_of(exported, tmp_path / "latent")
    change_json(latent / "transformer" / "config.json", in_channels=16)
    fails(latent, "in_channels is 16")
    other = copy_of(exported, tmp_path / "other")
    change_json(other / "model_index.json", _class_name="StableDiffusionPipeline")
    fails(other, "daybreak finetune takes other pipelines")
    cut = copy_of(exported, tmp_path / "cut")
    weights = cut / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    fails(cut, "damaged or missing")
    strange = copy_of(plain, tmp_path / "strange")
    save_file({"nonsense": torch.zeros(1)}, strange / "transformer.safetensors")
    fails(strange, "does not fit the config")
    (strange / "text_encoder" / "config.json").unlink()
    fails(strange, "text encoder is damaged or missing")


def test_nothing_is_overwritten(run, exported):
    before = (exported / "README.md").read_bytes()
    with pytest.raises(ConfigError, match="is not empty"):
        run_export(Console(), run, "diffusers", exported, "float32", Licences())
    assert (exported / "README.md").read_bytes() == before


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
