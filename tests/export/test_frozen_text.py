"""Models on a frozen text encoder travel too: ours to diffusers, and published ones to us."""

import json

import pytest
import torch
from rich.console import Console
from transformers import AutoTokenizer, Qwen3VLTextConfig, Qwen3VLTextModel

from daybreak import config as configs
from daybreak.commands.export import run_export, run_import
from daybreak.config import ConfigError, TextConfig
from daybreak.export.licences import Licences
from daybreak.formats.open import open_model
from daybreak.formats.run import load_averaged
from daybreak.sampling.generate import generate
from daybreak.train import phema
from daybreak.train.loop import train
from tests.conftest import tiny_config
from tests.encoders.test_pretrained_text import LM, saved
from tests.export.test_export import CPU, PROMPTS, draw_with_plain_diffusers


@pytest.mark.parametrize("family", ["qwen3", pytest.param("t5", marks=pytest.mark.slow)])
def test_a_run_on_a_frozen_encoder_goes_to_diffusers_and_back(family, tmp_path):
    """Qwen's tokenizer adds nothing to an empty caption, which guidance compares with; T5's does."""
    saved(family, tmp_path / "text")
    config = tiny_config(
        text__pretrained=str(tmp_path / "text"), text__max_tokens=40, train__sample_every=1.0, sample__steps=5,
        diffusion__shift=2.0, train__posthoc_ema="0.1", train__posthoc_snapshots=3,
    )  # fmt: skip
    train(config, tmp_path / "run", [])
    run_export(Console(), tmp_path / "run", "diffusers", tmp_path / "out", "float32", Licences())
    ours = generate(*load_averaged(tmp_path / "run", config, CPU), PROMPTS, config, seed=7)
    theirs = draw_with_plain_diffusers(tmp_path / "out", tmp_path / "there" / "p.npy", 5, config.sample.guidance)
    assert (ours - theirs).abs().max() <= 1e-4

    transformer, text_encoder, back = open_model(tmp_path / "out", CPU)
    assert text_encoder.frozen and back.text.pretrained == str((tmp_path / "out").resolve())
    torch.testing.assert_close(generate(transformer, text_encoder, PROMPTS, back, seed=7), ours, atol=1e-5, rtol=0)
    run_import(Console(), tmp_path / "out", tmp_path / "again", None)
    again = configs.load(tmp_path / "again" / "config.yaml")
    again = configs.override(again, "train.steps", 2)
    assert train(again, tmp_path / "again", [], resume=True).step == 2

    run_export(Console(), tmp_path / "run", "safetensors", tmp_path / "long", "float32", Licences(), ema=0.1)
    chosen, _, _ = open_model(tmp_path / "long", CPU)
    expected = phema.reconstruct(tmp_path / "run", 0.1)
    for name, tensor in chosen.state_dict().items():
        torch.testing.assert_close(tensor, expected[f"transformer.{name}"], atol=1e-6, rtol=1e-5)


def test_a_published_folder_with_a_vision_language_models_text_is_a_start(tmp_path):
    """PRXPixelPipeline as published: Qwen3-VL's text model, no file of ours in the folder."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    saved("qwen3", tmp_path / "words")
    text = Qwen3VLTextModel(
        Qwen3VLTextConfig(**LM, rope_parameters={"rope_type": "default", "mrope_section": [4, 2, 2]})
    )
    network = diffusers.PRXTransformer2DModel(
        in_channels=3, patch_size=4, context_in_dim=32, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=2,
        axes_dim=[8, 8], theta=10_000, bottleneck_size=16, resolution_embeds=True,
    )  # fmt: skip
    pipeline = diffusers.PRXPixelPipeline(
        transformer=network, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), text_encoder=text,
        tokenizer=AutoTokenizer.from_pretrained(tmp_path / "words"), default_sample_size=32, noise_scale=2.0,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "published")
    data = tmp_path / "pictures"
    data.mkdir()
    from PIL import Image

    for i in range(4):
        Image.new("RGB", (40, 40), (60 * i, 0, 0)).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(f"picture {i}")
    run_import(Console(), tmp_path / "published", tmp_path / "start", data)
    config = configs.load(tmp_path / "start" / "config.yaml")
    assert config.diffusion.noise_scale == 2.0 and config.model.size_conditioning
    config = configs.override(configs.override(config, "train.steps", 2), "train.batch", 4)
    assert train(config, tmp_path / "start", [], resume=True).step == 2


def test_an_average_that_was_not_kept_gets_one_line(finished_run, tmp_path):
    with pytest.raises(ConfigError, match="posthoc_ema"):
        run_export(Console(), finished_run, "safetensors", tmp_path / "out", "float32", Licences(), ema=0.1)


def test_an_unknown_encoder_gets_one_line(tmp_path):
    from transformers import BertConfig, BertModel

    folder = tmp_path / "pipeline"
    BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        folder / "text_encoder"
    )
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "PRXPixelPipeline"}))
    from daybreak.encoders.pretrained_text import PretrainedTextEncoder

    with pytest.raises(ConfigError, match="a bert; encoders can be"):
        PretrainedTextEncoder.open(TextConfig(pretrained=str(folder)))
