"""`daybreak export --to single-file`: diffusers opens it to the same picture, and its names are the authors'."""

import key_names
import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from single_file import save_single_file

from daybreak.commands.export import run_export
from daybreak.config import ConfigError
from daybreak.export.licences import Licences
from daybreak.export.single_file import original_tensors, write_single_file
from daybreak.finetune.bases import open_base
from daybreak.finetune.result import open_result
from daybreak.formats.original_keys import open_clip_key, unet_key, vae_key

QUIET, NONE = Console(quiet=True), Licences(None, None)


def exported(run, base, file) -> dict[str, str]:
    """What the one file of a run says of itself; it draws what the run's result does, which the base does not."""
    run_export(QUIET, run.folder, "single-file", file, "float32", NONE)
    opened = StableDiffusionPipeline.from_single_file(str(file), config=str(base))
    expected = tiny.drawn(open_result(run.folder))
    assert torch.allclose(tiny.drawn(opened), expected, atol=1e-5)
    assert not torch.allclose(expected, tiny.drawn(open_base(str(base))), atol=1e-3)
    with safe_open(file, "pt") as stored:
        return stored.metadata()


def test_a_run_as_one_file(base, pictures, tmp_path):
    run = tiny.finetune(base, pictures, tmp_path / "run", method="lora", rank=4, lr=2e-2, steps=2)
    file = tmp_path / "mine.safetensors"
    assert exported(run, base, file)["modelspec.architecture"] == "stable-diffusion-v1"
    for out, words in ((file, "exists already"), (tmp_path / "folder", "ends in .safetensors")):
        with pytest.raises(ConfigError, match=words):
            run_export(QUIET, run.folder, "single-file", out, "float32", NONE)
    with pytest.raises(ConfigError, match="is for Stable Diffusion 1, 2 and XL"):
        write_single_file(
            open_base(str(tiny.save_sd3(tmp_path / "sd3"))), tmp_path / "b.safetensors", torch.float32, "b"
        )
    assert not list(tmp_path.glob("*b.safetensors*"))


def test_stable_diffusion_2_trained_on_a_base_in_few_bits(pictures, tmp_path):
    base, file = tiny.save_sd2(tmp_path / "sd2"), tmp_path / "mine.safetensors"
    few = {"method": "lora", "rank": 4, "lr": 2e-2, "steps": 2, "base_weights": "int8"}
    run = tiny.finetune(base, pictures, tmp_path / "run", **few)
    told = exported(run, base, file)
    assert (told["modelspec.architecture"], told["modelspec.prediction_type"]) == ("stable-diffusion-v2", "v")


def test_names_are_those_of_a_converter_written_apart(base, tmp_path):
    plain = StableDiffusionPipeline.from_pretrained(base)
    theirs = load_file(save_single_file(plain, tmp_path / "theirs.safetensors"))
    ours = original_tensors(plain, "v1")
    positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    assert ours.pop(positions).shape == (1, 48)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_xl_with_both_text_encoders(tmp_path):
    base = tiny.save_sdxl(tmp_path / "xl")
    plain, file = StableDiffusionXLPipeline.from_pretrained(base), tmp_path / "xl.safetensors"
    write_single_file(plain, file, torch.float32, "xl")
    stored = load_file(file)
    encoder = plain.text_encoder_2
    layer = encoder.text_model.encoder.layers[1] if hasattr(encoder, "text_model") else encoder.encoder.layers[1]
    block = "conditioner.embedders.1.model.transformer.resblocks.1"
    three = torch.cat([getattr(layer.self_attn, f"{n}_proj").weight for n in "qkv"])
    assert torch.equal(stored[f"{block}.attn.in_proj_weight"], three)
    assert torch.equal(stored["conditioner.embedders.1.model.text_projection"], encoder.text_projection.weight.T)
    assert torch.equal(stored[f"{block}.mlp.c_fc.bias"], layer.mlp.fc1.bias) and "v_pred" not in stored
    first = "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight"
    assert first in stored and f"{first[:13]}" == "conditioner.e"
    unet = StableDiffusionXLPipeline.from_single_file(
        str(file), config=str(base), text_encoder=plain.text_encoder, text_encoder_2=encoder
    )  # diffusers tells OpenCLIP by the size that the published one has
    assert torch.allclose(tiny.drawn(unet), tiny.drawn(plain), atol=1e-5)


@pytest.mark.parametrize("table, make, names", [
    (key_names.SD1, "sd1", key_names.ORIGINAL_SD1), (key_names.SDXL, "sdxl", key_names.ORIGINAL_SDXL)])  # fmt: skip
def test_layers_of_published_sizes_have_the_authors_names(table, make, names):
    from test_adapter_files import SIZES

    network = SIZES[make][2]()
    ours = {unet_key(layer, network.config) for layer in key_names.names(table)}
    assert ours == set(key_names.names(names))


def test_names_of_the_autoencoder_and_open_clip():
    pairs = {
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": "encoder.down.1.block.0.nin_shortcut.weight",
        "encoder.down_blocks.2.downsamplers.0.conv.bias": "encoder.down.2.downsample.conv.bias",
        "decoder.up_blocks.0.resnets.2.norm1.weight": "decoder.up.3.block.2.norm1.weight",
        "decoder.up_blocks.2.upsamplers.0.conv.weight": "decoder.up.1.upsample.conv.weight",
        "decoder.mid_block.attentions.0.to_out.0.bias": "decoder.mid.attn_1.proj_out.bias",
        "decoder.mid_block.attentions.0.group_norm.weight": "decoder.mid.attn_1.norm.weight",
        "encoder.mid_block.resnets.1.conv2.weight": "encoder.mid.block_2.conv2.weight",
        "decoder.conv_norm_out.weight": "decoder.norm_out.weight", "quant_conv.bias": "quant_conv.bias",
    }  # fmt: skip
    assert {key: vae_key(key, 4) for key in pairs} == pairs
    assert open_clip_key("encoder.layers.7.layer_norm2.bias") == "transformer.resblocks.7.ln_2.bias"
    assert open_clip_key("encoder.layers.7.self_attn.out_proj.weight") == "transformer.resblocks.7.attn.out_proj.weight"
    with pytest.raises(KeyError):
        open_clip_key("encoder.layers.7.self_attn.q_proj.weight")
