"""LoRA and DoRA files: nothing is lost between the network in memory and whoever reads them, whatever was trained."""

import copy
from functools import cache

import key_names
import pytest
import tiny
import torch
from diffusers import DiffusionPipeline, FluxTransformer2DModel, SD3Transformer2DModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file, save_file

from daybreak.commands.finetune import resume_finetune
from daybreak.config import ConfigError
from daybreak.finetune import adapter_files, adapters
from daybreak.finetune.adapter_files import KOHYA, LORA
from daybreak.finetune.families import family_of
from daybreak.finetune.methods import add_adapter, make_trainable
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.train.guard import TrainingError

BASES = {"sd": tiny.save_sd, "sdxl": tiny.save_sdxl, "sd3": tiny.save_sd3, "flux": tiny.save_flux}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {name: save(folder / name) for name, save in BASES.items()}


@cache
def loaded(base):
    """Not to be changed."""
    return DiffusionPipeline.from_pretrained(base)


def fresh(base):
    """As it is loaded: a copy, since loading takes ten times as long."""
    return copy.deepcopy(loaded(base))


def trained(base, seed=0, **changes):
    """The family of a base whose adapters are as if trained: none of their tensors is what they begin with."""
    family = family_of(fresh(base), str(base))
    made = make_trainable(
        family, FinetuneSettings(base=str(base), data="", **({"method": "lora", "rank": 2} | changes))
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters.values():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data * (1 + 0.2 * noise) + 0.1 * noise
    for network in made.networks:
        network.eval()
    return family


def carried(family, text=False):
    return {family.denoiser: family.network} | (family.encoders if text else {})


def written(family, folder, text=False):
    folder.mkdir(parents=True, exist_ok=True)
    adapter_files.write(folder, carried(family, text))
    adapter_files.check(folder, family.pipeline, carried(family, text))
    return folder


def opened(base, file):
    family = family_of(fresh(base), str(base))
    for part, layers in adapter_files.read_own(file, carried(family, text=True)).items():
        adapters.put(getattr(family.pipeline, part), layers, str(file))
    return family.pipeline


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", BASES)
def test_any_set_of_layers_comes_back(name, bases, tmp_path, data):
    layers = adapters.layer_names(family_of(loaded(bases[name]), name).network)
    ends = sorted({layer.split(".", 1)[-1] for layer in layers} | set(layers) | {n.split(".")[-1] for n in layers})
    targets = tuple(data.draw(st.lists(st.sampled_from(ends), min_size=1, max_size=5, unique=True)))
    changes = {"method": data.draw(st.sampled_from(["lora", "dora"])), "targets": targets}
    changes |= {"rank": data.draw(st.integers(1, 4)), "alpha": data.draw(st.sampled_from([None, 1.0, 3.0]))}
    family = trained(bases[name], **changes)
    folder = written(family, tmp_path / "lora")
    expected = tiny.drawn(family.pipeline)
    plain = fresh(bases[name])
    plain.load_lora_weights(folder, weight_name=LORA)
    assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5)
    ours = opened(bases[name], folder / LORA)
    assert torch.allclose(tiny.drawn(ours), expected, atol=1e-5)
    other = opened(bases[name], folder / KOHYA)
    assert torch.allclose(tiny.drawn(other), expected, atol=1e-5)
    adapters.merge(getattr(ours, family.denoiser))
    assert torch.allclose(tiny.drawn(ours), expected, atol=1e-5)
    before = dict(loaded(bases[name]).components[family.denoiser].named_parameters())
    merged = dict(getattr(ours, family.denoiser).named_parameters())
    assert merged.keys() == before.keys()
    changed = {n.removesuffix(".weight") for n in before if not torch.equal(merged[n], before[n])}
    assert changed == set(adapters.targeted(getattr(ours, family.denoiser), targets))


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_every_layer_at_once_comes_back(name, method, bases, tmp_path):
    layers = tuple(adapters.layer_names(family_of(loaded(bases[name]), name).network))
    family = trained(bases[name], method=method, targets=layers, alpha=3.0)
    folder = written(family, tmp_path / "lora")
    expected = tiny.drawn(family.pipeline)
    for read_kohya in (False, True) if name in ("sd", "sdxl") and method == "lora" else (False,):
        plain = fresh(bases[name])
        plain.load_lora_weights(folder, weight_name=KOHYA if read_kohya else LORA)
        assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5)


SIZES = {
    "sd1": (key_names.SD1, "unet", lambda: tiny.unet(
        layers_per_block=2, block_out_channels=(4, 8, 12, 12), attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)),
    "sdxl": (key_names.SDXL, "unet", lambda: tiny.unet(
        layers_per_block=2, block_out_channels=(4, 8, 12), attention_head_dim=4,
        transformer_layers_per_block=(1, 2, 10),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=64)),
    "sd3": (key_names.SD3, "transformer", lambda: SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=24, attention_head_dim=4, num_attention_heads=1,
        joint_attention_dim=8, caption_projection_dim=4, pooled_projection_dim=8, out_channels=4,
        pos_embed_max_size=8)),
    "flux": (key_names.FLUX, "transformer", lambda: FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=19, num_single_layers=38, attention_head_dim=4, num_attention_heads=1,
        joint_attention_dim=4, pooled_projection_dim=4, axes_dims_rope=(0, 2, 2), guidance_embeds=True)),
}  # fmt: skip
"""As many blocks as the published models have, a few channels wide: names follow from the blocks."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_other_programs_know_every_name(size, method, tmp_path):
    table, part, make = SIZES[size]
    network = make()
    add_adapter(network, adapters.layer_names(network), FinetuneSettings(base="", data="", method=method, rank=1))
    adapter_files.write(tmp_path, {part: network})
    kohya = load_file(tmp_path / KOHYA)
    known = key_names.layers(kohya, key_names.ENDS["kohya"])
    assert known.keys() == key_names.kohya(table, f"lora_{part}_")
    wanted = set(key_names.ENDS["kohya"]) - (set() if method == "dora" else {"dora_scale"})
    assert all(kinds == wanted for kinds in known.values())
    ours = {k for k in load_file(tmp_path / LORA) if "magnitude" not in k}
    assert key_names.layers(ours, key_names.ENDS[part]).keys() == key_names.comfy(table, f"{part}.")
    for key, scale in kohya.items():
        if key.endswith(".dora_scale"):
            up = kohya[key.replace("dora_scale", "lora_up.weight")]
            assert scale.shape == (len(up), *[1] * (up.ndim - 1)), key  # [out, 1] or [out, 1, 1, 1]


def test_alpha_is_in_the_tensors_and_not_in_a_header_alone(bases, tmp_path):
    family = trained(bases["sd"], rank=8, alpha=2.0, targets=("to_q", "proj_in", "conv1"))
    folder = written(family, tmp_path / "lora")
    expected = tiny.drawn(family.pipeline)
    for name in (LORA, KOHYA):
        save_file(load_file(folder / name), tmp_path / name)  # leaves the header behind
        plain = fresh(bases["sd"])
        plain.load_lora_weights(tmp_path, weight_name=name)
        assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5), name
    kohya = load_file(tmp_path / KOHYA)
    assert {float(v) for k, v in kohya.items() if k.endswith(".alpha")} == {2.0}


def mixed_spellings(family, folder):
    """As daybreak wrote it before: attention layers renamed by diffusers' own converter, alpha in the header."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(family.network))
    told = family.network.peft_config["default"].to_dict()
    family.pipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=told)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_what_diffusers_would_lose_is_found_and_rescued(method, bases, tmp_path):
    targets = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1")
    family = trained(bases["sd"], method=method, alpha=6.0, targets=targets)
    expected = tiny.drawn(family.pipeline)
    written(family, tmp_path)
    mixed_spellings(family, tmp_path)
    with pytest.raises(
        TrainingError, match=f"^{tmp_path.name}/{LORA}, as diffusers reads it, does not hold|not read it"
    ):
        adapter_files.check(tmp_path, family.pipeline, carried(family))
    assert torch.allclose(tiny.drawn(opened(bases["sd"], tmp_path / LORA)), expected, atol=1e-5)


def test_resuming_a_finished_run_of_before_writes_its_files_anew(bases, tmp_path):
    pictures = tiny.write_pictures(tmp_path / "pictures", 8)
    changes = {"method": "lora", "rank": 2, "alpha": 6.0, "lr": 2e-2, "steps": 2, "targets": ("to_q", "proj_in")}
    run = tiny.finetune(bases["sd"], pictures, tmp_path / "run", **changes)
    with run.base.averages.in_place():
        expected = tiny.drawn(run.base.family.pipeline)
        mixed_spellings(run.base.family, run.folder / "lora")
    for _ in range(2):  # as it was left, and written anew
        assert torch.allclose(tiny.drawn(open_result(run.folder)), expected, atol=1e-5)
        resume_finetune(Console(quiet=True), run.folder)
    plain = fresh(bases["sd"])
    plain.load_lora_weights(run.folder / "lora", weight_name=LORA)
    assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5)


def test_a_file_that_does_not_hold_what_was_trained_is_refused(bases, tmp_path):
    family = trained(bases["sd"], targets=("to_q", "conv1"))
    for name in (LORA, KOHYA):
        written(family, tmp_path)
        tensors = load_file(tmp_path / name)
        up = next(k for k in tensors if "up.weight" in k)
        save_file(tensors | {up: tensors[up] * 1.01}, tmp_path / name)
        with pytest.raises(TrainingError, match=f"{name} does not hold what was trained: .* 1 of .* come back changed"):
            adapter_files.check(tmp_path, family.pipeline, carried(family))


def test_a_file_of_another_base_gets_one_line(bases, tmp_path):
    folder = written(trained(bases["sd"], targets=("conv1", "to_q")), tmp_path / "lora")
    tensors = load_file(folder / LORA)
    key = "unet.mid_block.resnets.0.conv1.lora.down.weight"
    for changed, words in (
        (
            {"unet.nowhere.lora.down.weight": torch.ones(1)},
            "unet.nowhere.lora.down.weight belongs to no layer",
        ),
        ({"unet.conv_in.bias": torch.ones(1)}, "unet.conv_in.bias is no part of a LoRA, DoRA, LoHa or LoKr layer"),
        ({key: tensors[key][:, :3]}, r"mid_block.resnets.0.conv1 does not fit the base: a tensor is \[2, 3, 3, 3\]"),
    ):
        save_file({k: v.contiguous() for k, v in (tensors | changed).items()}, tmp_path / "other.safetensors")
        with pytest.raises(ConfigError, match=words):
            opened(bases["sd"], tmp_path / "other.safetensors")
    del tensors[key]
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"conv1.lora.up.weight cannot be used: its layer has no lora_down.weight"):
        opened(bases["sd"], tmp_path / "other.safetensors")
    (tmp_path / "half.safetensors").write_bytes((folder / LORA).read_bytes()[:500])
    with pytest.raises(ConfigError, match="half.safetensors is damaged or missing"):
        opened(bases["sd"], tmp_path / "half.safetensors")


def test_targets_that_other_modules_end_in_too_are_layers_alone(bases, tmp_path):
    family = trained(
        bases["sd"], targets=("0", "proj")
    )  # down_blocks.0 is a block, ff.net.0.proj and to_out.0 are layers
    folder = written(family, tmp_path / "lora")
    found = adapter_files.read_own(folder / LORA, carried(family))["unet"]
    assert {name.split(".")[-1] for name in found} == {"0", "proj"} and len(found) == 12


@pytest.mark.parametrize("name, table", [("sd", key_names.CLIP_L), ("sdxl", key_names.CLIP_G)])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_text_encoders_come_back_under_names_that_others_know(name, table, method, bases, tmp_path):
    family = trained(bases[name], method=method, alpha=6.0, targets=("to_q", "conv1"), train_text_encoder=True)
    folder = written(family, tmp_path / "lora", text=True)
    expected = tiny.drawn(family.pipeline)
    for file in (LORA, KOHYA):
        ours = opened(bases[name], folder / file)
        assert torch.allclose(tiny.drawn(ours), expected, atol=1e-5), file
    plain = fresh(bases[name])
    plain.load_lora_weights(folder, weight_name=LORA)
    assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5)
    for part in family.encoders:
        adapters.merge(getattr(ours, part))
    assert torch.allclose(tiny.drawn(ours), expected, atol=1e-5)
    prefixes = {"sd": ["lora_te_"], "sdxl": ["lora_te1_", "lora_te2_"]}[name]
    keys = [k for k in load_file(folder / KOHYA) if not k.startswith("lora_unet_")]
    known = key_names.layers(keys, key_names.ENDS["kohya"])
    assert known.keys() <= set().union(*(key_names.kohya(table, prefix) for prefix in prefixes))
    assert len(known) == 8 * len(prefixes)  # two layers of four
    keys = [k for k in load_file(folder / LORA) if k.startswith("text_encoder") and "magnitude" not in k]
    known = key_names.layers(keys, key_names.ENDS["text"])
    assert known.keys() <= set().union(*(key_names.comfy(table, f"{part}.") for part in family.encoders))
    assert len(known) == 8 * len(prefixes)
