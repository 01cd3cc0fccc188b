"""Each kind of base under each kind of adapter: trained, exported, opened by plain diffusers, the same picture."""

import json

import pytest
import tiny
import torch
from diffusers import DiffusionPipeline
from rich.console import Console
from safetensors.torch import load_file, save_file

from daybreak.commands.export import run_export
from daybreak.commands.sample import run_sample
from daybreak.config import ConfigError
from daybreak.evaluate.request import Drawing
from daybreak.export.licences import Licences
from daybreak.finetune.adapters import adapters_of, difference
from daybreak.finetune.asked import trains_own
from daybreak.finetune.bases import open_base
from daybreak.finetune.frozen_weights import FrozenLinear, freeze, frozen_bytes, saved_bytes
from daybreak.finetune.opening import plan_of
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.result import merge, open_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.formats.open import open_model
from daybreak.serve.jobs import Job, Order
from daybreak.serve.open import open_served
from daybreak.serve.settings import ServeSettings

QUIET = Console(quiet=True)
STEPS = {"lr": 0.1, "steps": 4, "rank": 4, "report": False, "resolution": 16}
PAIRS = [
    *(("sd", method) for method in ("lora", "dora", "loha", "lokr")),
    ("prx", "lora"), ("prx_pixel", "lokr"), ("flux", "loha"), ("sd3", "lokr"),
]  # fmt: skip


def picture(pipeline):
    options = {"use_resolution_binning": False} if type(pipeline).__name__.startswith("PRX") else {}
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    return pipeline(
        prompt="a red circle on white", num_inference_steps=2, height=16, width=16, generator=generator,
        output_type="pt", **options,
    ).images  # fmt: skip


def stir(file):
    """A new PRX lets nothing of its blocks through: its gates are zero, which those of a trained one are not."""
    generator = torch.Generator().manual_seed(0)
    tensors = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name, method", PAIRS)
def test_trained_exported_opened(name, method, pictures, tmp_path):
    base = getattr(tiny, f"save_{name}")(tmp_path / "base")
    if name.startswith("prx"):
        stir(base / "transformer" / "diffusion_pytorch_model.safetensors")
    run = tiny.finetune(base, pictures, tmp_path / "run", method=method, **STEPS)
    family = run.base.family
    with run.base.averages.in_place():
        expected = picture(family.pipeline)
        carried = adapters_of(family.network)
    again = open_result(run.folder)
    assert difference(carried, adapters_of(getattr(again, family.denoiser))) is None and carried
    assert torch.allclose(picture(again), expected, atol=1e-5)
    run_export(QUIET, run.folder, "diffusers", tmp_path / "exported", "float32", Licences(None, None))
    exported = DiffusionPipeline.from_pretrained(tmp_path / "exported")
    assert torch.allclose(picture(exported), expected, atol=1e-4)
    part = family.denoiser
    after, before = (getattr(p, part).state_dict() for p in (exported, open_base(str(base))))
    changed = {k for k in before if not torch.equal(after[k], before[k])}
    assert changed and changed <= {f"{layer}.weight" for layer in carried}, changed
    files = sorted(p.name for p in (run.folder / "lora").glob("*.safetensors"))
    assert files == ["lora_kohya.safetensors"] + (
        ["pytorch_lora_weights.safetensors"] if method in ("lora", "dora") else []
    )


def test_going_on_from_a_file(base, pictures, tmp_path):
    first = tiny.finetune(base, pictures, tmp_path / "first", method="lokr", **STEPS)
    with first.base.averages.in_place():
        left = adapters_of(first.base.family.network)
    then = {"lr": 1e-12, "steps": 1, "method": "lokr"}
    second = tiny.finetune(base, pictures, tmp_path / "second", lora=str(first.folder), **then)
    assert difference(left, adapters_of(second.base.family.network)) is None
    moved = tiny.finetune(base, pictures, tmp_path / "third", lora=str(first.folder), **(then | {"lr": 1e-2}))
    assert difference(left, adapters_of(moved.base.family.network)) is not None
    with pytest.raises(ConfigError, match="is no lora: give --method lokr"):
        tiny.finetune(base, pictures, tmp_path / "other", lora=str(first.folder), method="lora")
    with pytest.raises(ConfigError, match="--rank has no effect with --lora"):
        FinetuneSettings(base="b", data="d", method="lora", lora="f", rank=3)
    other = tiny.save_sd3(tmp_path / "sd3")
    with pytest.raises(ConfigError, match="cannot be trained further on .* belongs to no layer of the base"):
        tiny.finetune(other, pictures, tmp_path / "other", lora=str(first.folder), method="lokr")


def test_a_model_of_our_own(finished_run, pictures, tmp_path):
    settings = FinetuneSettings(base=str(finished_run), data="d", method="lora")
    assert not trains_own(settings)
    run = tiny.finetune(finished_run, pictures, tmp_path / "run", method="lora", **STEPS)
    family = run.base.family
    assert run.base.averages.tensors and all("lora" in name for name in run.base.trained.parameters)
    with run.base.averages.in_place():
        expected = picture(family.pipeline)
    plain = picture(open_base(str(finished_run)))
    assert torch.allclose(picture(open_result(run.folder)), expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-3)
    out = tmp_path / "exported"
    run_export(QUIET, run.folder, "diffusers", out, "float32", Licences(None, None))
    merged = open_result(run.folder)
    merge(merged)
    exported, wanted = open_model(out, torch.device("cpu"))[0].state_dict(), merged.transformer.network.state_dict()
    assert exported.keys() == wanted.keys() and all(torch.allclose(exported[k], wanted[k], atol=1e-6) for k in wanted)
    assert torch.allclose(picture(merged), expected, atol=1e-5)
    file = run.folder / "lora" / "lora_kohya.safetensors"
    drawings = {}
    for name, model, lora in (("run", run.folder, ()), ("file", finished_run, (str(file),)),
                              ("half", finished_run, (f"{file}:0.5",)), ("plain", finished_run, ())):  # fmt: skip
        out = tmp_path / f"{name}.png"
        run_sample(QUIET, model, ["a red circle"], out, Drawing(0, 2, lora=lora))
        drawings[name] = out.read_bytes()
    assert len(set(drawings.values())) >= 3 and drawings["file"] not in (drawings["half"], drawings["plain"])
    model = open_served(str(finished_run), ServeSettings(lora=(f"{finished_run.name}={file}",)), torch.device("cpu"))
    (row,) = model.begin([Job(Order("mine", "a dog", 16, 16, 1, 1.0, 3), lambda _e: None, float("inf"))])
    while row.pixels is None:
        model.advance([row])


def test_served_and_sampled_with_files_at_strengths(base, pictures, tmp_path):
    run = tiny.finetune(base, pictures, tmp_path / "run", method="lokr", **STEPS)
    file = run.folder / "lora" / "lora_kohya.safetensors"
    weights = {}
    for name, lora in (("plain", ()), ("once", (f"{file}:0.5",)), ("twice", (f"{file}:0.25", f"x={file}:0.25")),
                       ("other", (f"y={file}",))):  # fmt: skip
        model = open_served(f"x={base}", ServeSettings(lora=lora), torch.device("cpu"))
        (row,) = model.begin([Job(Order("x", "a dog", 16, 16, 1, 1.0, 3), lambda _e: None, float("inf"))])
        model.advance([row])
        assert row.pixels is not None
        weights[name] = model._pipeline.unet.state_dict()
    assert all(torch.allclose(weights["once"][k], weights["twice"][k], atol=1e-6) for k in weights["once"])
    assert any(not torch.equal(weights["once"][k], weights["plain"][k]) for k in weights["once"])
    assert all(torch.equal(weights["other"][k], weights["plain"][k]) for k in weights["plain"])
    header = json.dumps(sorted(k.rsplit(".", 1)[1] for k in load_file(file)))
    assert "lokr_w1" in header and "alpha" in header


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_base_in_few_bits_trains_an_adapter(kind, base, pictures, tmp_path):
    run = tiny.finetune(base, pictures, tmp_path / "run", method="lora", base_weights=kind, **STEPS)
    layers = [m for m in run.base.family.network.modules() if isinstance(m, FrozenLinear)]
    assert len(layers) > 20 and not any("codes" in name for name in run.base.trained.parameters)
    exported = tmp_path / "exported"
    run_export(QUIET, run.folder, "diffusers", exported, "float32", Licences(None, None))
    merged = DiffusionPipeline.from_pretrained(exported)
    assert torch.allclose(picture(merged), picture(open_result(run.folder)), atol=1e-4)
    with pytest.raises(ConfigError, match="--base-weights keeps weights that are not trained"):
        FinetuneSettings(base="b", data="d", base_weights=kind)


@pytest.mark.parametrize("kind, error", [("int8", 0.01), ("nf4", 0.12)])
def test_few_bits_are_near_the_weights_and_pass_gradients(kind, error):
    torch.manual_seed(0)
    plain = torch.nn.Linear(80, 48)
    few = FrozenLinear(plain, kind)
    gap = (few.weight - plain.weight).norm() / plain.weight.norm()
    assert 0 < gap < error
    x = torch.randn(5, 80, requires_grad=True)
    (few(x).square().sum()).backward()
    ours, x.grad = x.grad, None
    torch.nn.functional.linear(x, few.weight, plain.bias).square().sum().backward()
    assert torch.allclose(ours, x.grad, atol=1e-4)
    stored = sum(b.numel() * b.element_size() for b in few.buffers())
    network = torch.nn.Sequential(plain)
    assert stored == pytest.approx(plain.weight.numel() * 4 - saved_bytes(network, kind, 4), abs=0)
    freeze(network, kind)
    assert frozen_bytes(network) == stored


def test_the_plan_counts_few_bits(base):
    sizes = {}
    for kind in ("plain", "int8", "nf4"):
        settings = FinetuneSettings(base=str(base), data="d", method="lora", base_weights=kind, micro_batch=1)
        prepared = open_prepared(settings, torch.device("cpu"))
        sizes[kind] = dict(plan_of(prepared).parts)["weights, frozen"]
        held = prepared.family.network
        there = [t for t in (*held.parameters(), *held.buffers()) if not t.requires_grad]
        assert sizes[kind] == sum(t.numel() * t.element_size() for t in there)
    assert sizes["nf4"] < sizes["int8"] < sizes["plain"]
