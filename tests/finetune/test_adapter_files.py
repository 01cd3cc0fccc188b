"""LoRA and DoRA files: nothing is lost between the network in memory and whoever reads them, whatever was trained."""

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybreak.finetune import adapter_files, adapters
from daybreak.finetune.adapter_files import KOHYA, LORA
from daybreak.finetune.bases import open_base
from daybreak.finetune.families import family_of
from daybreak.finetune.methods import make_trainable
from daybreak.finetune.settings import FinetuneSettings

BASES = {"sd": tiny.save_sd, "sdxl": tiny.save_sdxl, "sd3": tiny.save_sd3, "flux": tiny.save_flux}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {name: save(folder / name) for name, save in BASES.items()}


def trained(base, seed=0, **changes):
    """The family of a base whose adapters are as if trained: none of their tensors is what they begin with."""
    family = family_of(open_base(str(base)), str(base))
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
    family = family_of(open_base(str(base)), str(base))
    for part, layers in adapter_files.read(file, carried(family, text=True)).items():
        adapters.put(getattr(family.pipeline, part), layers, str(file))
    return family.pipeline


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("name", BASES)
def test_any_set_of_layers_comes_back(name, bases, tmp_path, data):
    layers = adapters.layer_names(family_of(open_base(str(bases[name])), name).network)
    ends = sorted({layer.split(".", 1)[-1] for layer in layers} | set(layers) | {n.split(".")[-1] for n in layers})
    targets = tuple(data.draw(st.lists(st.sampled_from(ends), min_size=1, max_size=5, unique=True)))
    changes = {"method": data.draw(st.sampled_from(["lora", "dora"])), "targets": targets}
    changes |= {"rank": data.draw(st.integers(1, 4)), "alpha": data.draw(st.sampled_from([None, 1.0, 3.0]))}
    family = trained(bases[name], **changes)
    folder = written(family, tmp_path / "lora")
    expected = tiny.drawn(family.pipeline)
    plain = DiffusionPipeline.from_pretrained(bases[name])
    plain.load_lora_weights(folder, weight_name=LORA)
    assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5)
    ours = opened(bases[name], folder / LORA)
    assert torch.allclose(tiny.drawn(ours), expected, atol=1e-5)
    other = opened(bases[name], folder / KOHYA)
    assert torch.allclose(tiny.drawn(other), expected, atol=1e-5)
    adapters.merge(getattr(ours, family.denoiser))
    assert torch.allclose(tiny.drawn(ours), expected, atol=1e-5)
    before = dict(DiffusionPipeline.from_pretrained(bases[name]).components[family.denoiser].named_parameters())
    merged = dict(getattr(ours, family.denoiser).named_parameters())
    assert merged.keys() == before.keys()
    changed = {n.removesuffix(".weight") for n in before if not torch.equal(merged[n], before[n])}
    assert changed == set(adapters.targeted(getattr(ours, family.denoiser), targets))


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_every_layer_at_once_comes_back(name, method, bases, tmp_path):
    layers = tuple(adapters.layer_names(family_of(open_base(str(bases[name])), name).network))
    family = trained(bases[name], method=method, targets=layers, alpha=3.0)
    folder = written(family, tmp_path / "lora")
    expected = tiny.drawn(family.pipeline)
    for read_kohya in (False, True) if name in ("sd", "sdxl") and method == "lora" else (False,):
        plain = DiffusionPipeline.from_pretrained(bases[name])
        plain.load_lora_weights(folder, weight_name=KOHYA if read_kohya else LORA)
        assert torch.allclose(tiny.drawn(plain), expected, atol=1e-5)
