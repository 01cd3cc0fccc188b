"""Every kind of base and way to run that is not Stable Diffusion in a folder, in one process, to the last step."""

import json
import shutil
import time
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import load_file
from single_file import save_single_file
from tiny import drawn, finetune, probes

from daybreak.config import ConfigError
from daybreak.finetune.base_files import check_base
from daybreak.finetune.bases import open_base
from daybreak.finetune.drawing import draw
from daybreak.finetune.order import CachedPictures
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings


@pytest.mark.parametrize("save", [tiny.save_prx, tiny.save_prx_pixel])
def test_prx(save, pictures, tmp_path):
    base = save(tmp_path / "base")
    run = finetune(base, pictures, tmp_path / "run", lr=3e-3)
    assert run.base.side == 16 and probes(run.folder)[-1]["domain"] < probes(run.folder)[0]["domain"]
    pipeline = DiffusionPipeline.from_pretrained(run.folder / "model")
    assert type(pipeline).__name__ == json.loads((base / "model_index.json").read_text())["_class_name"]
    pipeline.set_progress_bar_config(disable=True)
    settings = FinetuneSettings(base="", data="", sample_steps=2, guidance=3.0)
    both = draw(pipeline, ["a red circle", "a dog"], settings, 16)
    options = {"height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 3.0}
    generator = torch.Generator().manual_seed(1)
    alone = pipeline("a dog", generator=generator, use_resolution_binning=False, output_type="np", **options)
    assert torch.allclose((both[1].permute(1, 2, 0) + 1) / 2, torch.from_numpy(alone.images[0]), atol=1e-3)


def test_a_single_file(base, pictures, tmp_path):
    plain = StableDiffusionPipeline.from_pretrained(base)
    file = save_single_file(plain, tmp_path / "model.safetensors")
    run = finetune(file, pictures, tmp_path / "run", base_config=str(base), method="lora", rank=4, lr=2e-2, steps=2)
    assert torch.allclose(drawn(open_base(str(file), config=str(base))), drawn(plain), atol=1e-5)
    assert not torch.allclose(drawn(open_result(run.folder)), drawn(plain), atol=1e-4)
    (tmp_path / "half.safetensors").write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="half.safetensors is damaged or cut short"):
        finetune(tmp_path / "half.safetensors", pictures, tmp_path / "other")
    shutil.copytree(base, tmp_path / "cut")
    part = tmp_path / "cut" / "unet" / "diffusion_pytorch_model.safetensors"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    with pytest.raises(ConfigError, match="cut/unet/diffusion_pytorch_model.safetensors is damaged or cut short"):
        check_base(str(tmp_path / "cut"), False, None, None)  # before torch loads
    with pytest.raises(ConfigError, match="--base-config goes with a single file"):
        finetune(base, pictures, tmp_path / "other", base_config=str(base))


def test_pickled_weights_load_when_asked_for(base, pictures, tmp_path):
    StableDiffusionPipeline.from_pretrained(base).save_pretrained(tmp_path / "pickled", safe_serialization=False)
    run = finetune(tmp_path / "pickled", pictures, tmp_path / "run", allow_pickle=True, lr=1e-12, steps=1)
    assert (run.folder / "model" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    plain = drawn(DiffusionPipeline.from_pretrained(base))
    assert torch.allclose(drawn(open_result(run.folder)), plain, atol=1e-5)


def test_a_pickle_that_would_run_code_is_refused_even_then(base, pictures, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was here",))

    StableDiffusionPipeline.from_pretrained(base).save_pretrained(tmp_path / "evil", safe_serialization=False)
    torch.save({"conv_in.weight": Evil()}, tmp_path / "evil" / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot load it"):
        finetune(tmp_path / "evil", pictures, tmp_path / "run", allow_pickle=True)
    torch.save({"state_dict": {"x": Evil()}}, tmp_path / "evil.ckpt")
    with pytest.raises(ConfigError, match="cannot be read"):
        finetune(tmp_path / "evil.ckpt", pictures, tmp_path / "run", allow_pickle=True)
    assert not (tmp_path / "was here").exists()


def test_the_class_can_be_given_as_pictures(base, pictures, tmp_path):
    squares = tiny.write_pictures(tmp_path / "squares", 6, shape="square", seed=9)
    changes = {"instance_prompt": "a red dog", "class_prompt": "a dog", "class_data": str(squares), "steps": 2}
    run = finetune(base, pictures, tmp_path / "run", **changes)
    assert len(run.cache.prior) == 6 and not (run.folder / "class").exists()
    assert {run.cache.captions[i] for i in run.cache.prior} == {"a dog"}
    with pytest.raises(ConfigError, match="--class-data .*: "):
        finetune(base, pictures, tmp_path / "other", **(changes | {"class_data": str(tmp_path / "nowhere")}))


def test_textual_inversion_of_two_encoders(pictures, tmp_path):
    base = tiny.save_sdxl(tmp_path / "base")
    changes = {"method": "textual-inversion", "token": "<x>", "vectors": 2, "lr": 0.1, "resolution": 16}
    run = finetune(base, pictures, tmp_path / "run", **changes)
    assert load_file(run.folder / "embedding" / "learned_embeds.safetensors").keys() == {"clip_l", "clip_g"}
    with run.base.averages.in_place():
        expected = drawn(run.base.family.pipeline, "a <x> dog")
    assert torch.allclose(drawn(open_result(run.folder), "a <x> dog"), expected, atol=1e-5)
    assert not torch.allclose(drawn(DiffusionPipeline.from_pretrained(base), "a <x> dog"), expected, atol=1e-4)


def test_minutes_and_deadline_end_a_run_with_its_result(base, pictures, tmp_path, monkeypatch):
    real = CachedPictures.batch

    def batch(*given):
        time.sleep(0.1)  # steps that wait take as long, but not of the processor
        return real(*given)

    monkeypatch.setattr(CachedPictures, "batch", batch)
    run = finetune(base, pictures, tmp_path / "minutes", steps=10**6, minutes=0.01, sample_every=10**6)
    assert 0 < run.step < 10**6 and run.seconds >= 0.6 and (run.folder / "model").is_dir()
    assert probes(run.folder)[-1]["step"] == run.step
    began = time.time()
    run = finetune(base, pictures, tmp_path / "deadline", steps=10**6, deadline_minutes=0.1, sample_every=10**6)
    assert run.step < 10**6 and (run.folder / "model").is_dir()
    assert time.time() - began < 60


def test_adam_in_8_bits(base, pictures, tmp_path):
    try:
        import torchao.optim  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"--adam-8bit needs.*daybreak\[quant\]"):
            finetune(base, pictures, tmp_path / "run", adam_8bit=True)
        assert not (tmp_path / "run").exists()
        return
    run = finetune(base, pictures, tmp_path / "run", adam_8bit=True, lr=3e-3)
    assert probes(run.folder)[-1]["domain"] < probes(run.folder)[0]["domain"]
