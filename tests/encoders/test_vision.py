"""Vision teachers: every family from a tiny model of the real class, against the class itself."""

import json

import pytest
import torch
import torch.nn.functional as F
from making import captioned_folder
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError
from daybreak.data.scenes.source import ScenesSource
from daybreak.encoders.embedded_teacher import EmbeddedTeacher, picture_features
from daybreak.encoders.teach import probe, teach
from daybreak.encoders.teacher_file import training_seconds
from daybreak.encoders.vision import open_teacher
from daybreak.losses.perceptual import open_lpips
from daybreak.train.loop import train
from tests.conftest import tiny_config

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32}
FAMILIES = {
    "dinov2": (Dinov2Model, Dinov2Config(patch_size=8, **SIZE), 1),
    "registers": (Dinov2WithRegistersModel, Dinov2WithRegistersConfig(patch_size=8, num_register_tokens=3, **SIZE), 4),
    "dinov3": (DINOv3ViTModel, DINOv3ViTConfig(patch_size=8, num_register_tokens=4, **SIZE), 5),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(patch_size=8, **SIZE), 0),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_gives_the_patches_of_its_network(family, tmp_path):
    kind, config, skip = FAMILIES[family]
    torch.manual_seed(0)
    kind(config).save_pretrained(tmp_path)
    teacher = open_teacher(str(tmp_path), "alignment.teacher")
    assert (teacher.patch, teacher.width) == (8, 32)
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    side = teacher.sizes_for(4, 4)
    assert side == (32, 32)
    features = teacher(images, side)
    assert features.shape == (2, 16, 32)
    pixels = (F.interpolate(images, side, mode="bicubic", antialias=True) + 1) / 2
    mean, std = ([0.5] * 3, [0.5] * 3) if family == "siglip" else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        expected = kind.from_pretrained(tmp_path)(pixel_values=pixels).last_hidden_state[:, skip:]
    assert torch.allclose(features, expected, atol=1e-4)
    assert teacher(images, (40, 24)).shape == (2, 15, 32)  # other grids too
    assert not any(p.requires_grad for p in teacher.parameters())


def test_another_kind_of_network_is_refused_by_name(tmp_path):
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="a bert; teachers can be dinov2"):
        open_teacher(str(tmp_path), "alignment.teacher")


def test_the_embedded_teacher_has_learned_shapes():
    """Against the same network with random weights; its training is self-supervised."""
    torch.manual_seed(0)
    trained, random = probe(EmbeddedTeacher.load()), probe(EmbeddedTeacher().eval())
    assert trained > 0.6 > random


def test_its_patch_features_are_standardised_over_scenes_that_it_has_not_seen():
    network = EmbeddedTeacher.load()
    features = network.patch_features(ScenesSource(32, seed=99).batch(0, 200).images).flatten(0, 1)
    assert features.mean(0).abs().max() < 0.1 and 0.8 < features.std(0).min() <= features.std(0).max() < 1.2
    grey = torch.zeros(1, 3, 32, 32)
    raw, standard = network(grey)[-1].flatten(2).transpose(1, 2), network.patch_features(grey)
    assert torch.allclose(standard * network.deviation + network.mean, raw, atol=1e-5)


def test_picture_features_are_one_vector_a_picture():
    network = EmbeddedTeacher.load()
    images = torch.rand(3, 3, 32, 32)
    assert picture_features(network, images).shape == (3, 192)
    assert torch.allclose(picture_features(network, images)[:1], picture_features(network, images[:1]), atol=1e-5)


def test_the_embedded_teacher_says_how_long_its_training_took():
    assert 10 < training_seconds() < 1000


def test_a_teacher_of_ones_own_pictures_teaches_a_run(tmp_path):
    captioned_folder(tmp_path / "pictures", 12)
    with (tmp_path / "pictures" / "metadata.jsonl").open("a") as lines:
        lines.write('\n{"file_name": "broken.png", "text": "a broken one"}')
    (tmp_path / "pictures" / "broken.png").write_bytes(b"nothing")
    file = str(tmp_path / "own.safetensors")
    words = ["teach", "--data", str(tmp_path / "pictures"), "--resolution", "40", "--steps", "2", "--out"]
    wrong = CliRunner().invoke(app, [*words, "teacher.pt"])
    assert "should end in .safetensors" in str(wrong.exception) and "pictures at" not in wrong.output  # before reading
    wrong = CliRunner().invoke(app, ["teach", "--resolution", "64", "--out", file])
    assert "--resolution is for the pictures of --data" in str(wrong.exception)
    done = CliRunner().invoke(app, [*words, file])
    assert done.exit_code == 0, done.exception
    assert "broken.png" in done.output and "12 captioned pictures at 40 px" in done.output
    assert "linear probe" not in done.output  # which is of the embedded world's shapes
    first, second = (open_teacher(name, "alignment.teacher") for name in (file, "embedded"))
    images = torch.rand(2, 3, 40, 40) * 2 - 1
    assert first(images, (32, 32)).shape == (2, 64, 96)
    assert not torch.allclose(first(images, (32, 32)), second(images, (32, 32)), atol=0.1)
    with pytest.raises(ConfigError, match="perceptual.dino_teacher: .*absent.safetensors: no such file"):
        open_teacher(str(tmp_path / "absent.safetensors"), "perceptual.dino_teacher")
    assert float(open_lpips(file, None)(images, images.flip(0)).min()) > 0
    settings = {"alignment__weight": 0.5, "alignment__teacher": file, "alignment__layer": 2, "train__steps": 2}
    learned = [train(tiny_config(**settings | more), tmp_path / name, []) for name, more in RUNS.items()]
    logs = [map(json.loads, (tmp_path / n / "log.jsonl").read_text().splitlines()) for n in RUNS]
    alignments = [next(line["terms"] for line in log if line["event"] == "step") for log in logs]
    assert alignments[0]["alignment"] != alignments[1]["alignment"]
    assert [s.step for s in learned] == [2, 2]


RUNS = {"own": {}, "embedded": {"alignment__teacher": "embedded"}}


def test_teaching_writes_a_teacher_that_loads_and_is_the_same_twice(tmp_path):
    for name in "ab":
        teach(ScenesSource(32), 2, tmp_path / f"{name}.safetensors", 0, lambda _line: None)
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert 0 < training_seconds(tmp_path / "a.safetensors") < 60
    assert EmbeddedTeacher.load(tmp_path / "a.safetensors").width == 96
    with pytest.raises(ConfigError, match=r"absent.safetensors: no such file; `daybreak teach --out .*` would write"):
        EmbeddedTeacher.load(tmp_path / "absent.safetensors")
