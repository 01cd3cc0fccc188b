"""Bases whose weights carry a word in their names: alone they are opened, among others --variant picks."""

import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny import drawn, finetune

from daybreak.config import ConfigError
from daybreak.finetune.bases import open_base
from daybreak.finetune.result import open_result
from daybreak.finetune.variants import pick_variant, variants_of


@pytest.fixture(scope="module")
def kinds(base, tmp_path_factory):
    """Folders: fp16 alone; fp16 beside bf16, of other weights; plain beside fp16; fp16 for the UNet alone."""
    folder = tmp_path_factory.mktemp("variants")
    plain = DiffusionPipeline.from_pretrained(base)
    plain.save_pretrained(folder / "fp16", variant="fp16")
    shutil.copytree(folder / "fp16", folder / "several")
    shutil.copytree(base, folder / "both")
    shutil.copytree(base, folder / "mixed")
    with torch.no_grad():
        for parameter in plain.unet.parameters():
            parameter.mul_(0.9)
    plain.save_pretrained(folder / "several", variant="bf16")
    plain.save_pretrained(folder / "both", variant="fp16")
    plain.unet.save_pretrained(folder / "mixed" / "unet", variant="fp16")
    (folder / "mixed" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    return folder


def test_a_folder_of_one_variant_is_opened_trained_and_opened_again(kinds, base, pictures, tmp_path):
    assert torch.equal(drawn(open_base(str(kinds / "fp16"))), drawn(DiffusionPipeline.from_pretrained(base)))
    run = finetune(kinds / "fp16", pictures, tmp_path / "run", method="lora", rank=2, steps=1)
    assert (run.folder / "lora").is_dir() and open_result(run.folder) is not None


def test_variant_picks(kinds, base, pictures, tmp_path):
    changed = drawn(open_base(str(kinds / "several"), variant="bf16"))
    assert torch.equal(drawn(open_base(str(kinds / "several"), variant="fp16")), drawn(open_base(str(base))))
    assert not torch.equal(changed, drawn(open_base(str(base))))
    with pytest.raises(ConfigError, match="several has weights of several kinds .*--variant bf16 or --variant fp16"):
        open_base(str(kinds / "several"))
    run = finetune(
        kinds / "several", pictures, tmp_path / "run", method="lora", rank=2, steps=1, variant="bf16", lr=1e-9
    )
    assert torch.allclose(drawn(open_result(run.folder)), changed, atol=1e-5)  # the run remembers which


def test_plain_weights_come_first(kinds, base):
    assert torch.equal(drawn(open_base(str(kinds / "both"))), drawn(open_base(str(base))))
    assert not torch.equal(drawn(open_base(str(kinds / "both"), variant="fp16")), drawn(open_base(str(base))))


def test_one_network_may_have_a_variant_where_others_are_plain(kinds, base):
    assert pick_variant(kinds / "mixed", None, allow_pickle=False) == "fp16"
    assert not torch.equal(drawn(open_base(str(kinds / "mixed"))), drawn(open_base(str(base))))


def test_a_variant_in_several_files_and_one_in_pickles(base, tmp_path):
    plain = DiffusionPipeline.from_pretrained(base)
    shutil.copytree(base, tmp_path / "shards", ignore=shutil.ignore_patterns("unet"))
    plain.unet.save_pretrained(tmp_path / "shards" / "unet", variant="fp16", max_shard_size="20KB")
    assert len(list((tmp_path / "shards" / "unet").glob("*.fp16-*-of-*.safetensors"))) > 2
    assert torch.equal(drawn(open_base(str(tmp_path / "shards"))), drawn(plain))
    plain.save_pretrained(tmp_path / "pickled", variant="fp16", safe_serialization=False)
    with pytest.raises(ConfigError, match="fp16.bin is a pickle"):
        open_base(str(tmp_path / "pickled"))
    assert torch.equal(drawn(open_base(str(tmp_path / "pickled"), allow_pickle=True)), drawn(plain))


def test_what_is_not_there_is_said(kinds, base, tmp_path):
    with pytest.raises(ConfigError, match=r"--variant fp8: .*several has no such files; there are bf16, fp16"):
        open_base(str(kinds / "several"), variant="fp8")
    with pytest.raises(ConfigError, match="has no such files: leave it out"):
        open_base(str(base), variant="fp16")
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="--variant is for folders and hub ids"):
        open_base(str(tmp_path / "x.safetensors"), variant="fp16")
    odd = tmp_path / "odd"
    shutil.copytree(kinds / "fp16", odd)
    (odd / "vae" / "diffusion_pytorch_model.fp16.safetensors").rename(
        odd / "vae" / "diffusion_pytorch_model.q.safetensors"
    )
    with pytest.raises(ConfigError, match="has only .* files, others have not"):
        open_base(str(odd))


@pytest.mark.parametrize(
    "name, variant",
    [
        ("diffusion_pytorch_model.safetensors", ""),
        ("model-00001-of-00002.safetensors", ""),
        ("model.fp16.safetensors", "fp16"),
        ("diffusion_pytorch_model.non_ema.safetensors", "non_ema"),
        ("model.fp16-00001-of-00002.safetensors", "fp16"),
        ("model-00001-of-00002.fp16.safetensors", "fp16"),
    ],
)
def test_names(name, variant, tmp_path):
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "X"], "gone": [null, null], "_class_name": "Y"}')
    (tmp_path / "unet").mkdir()
    for other in (name, "config.json", "pytorch_model.bin", "model.safetensors.index.fp16.json"):
        (tmp_path / "unet" / other).touch()
    assert variants_of(tmp_path, allow_pickle=False) == {"unet": {variant}}
    assert variants_of(tmp_path, allow_pickle=True) == {"unet": {variant, ""}}
