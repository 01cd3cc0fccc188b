"""What stands where in memory, and what the plan says of it: measured, in bytes alive."""

from dataclasses import replace
from functools import partial

import pytest
import tiny
import tiny_today
import torch
from measured import measured_step

from daybreak.config import ConfigError
from daybreak.finetune import memory
from daybreak.finetune.bases import open_base
from daybreak.finetune.families import family_of
from daybreak.finetune.frozen_weights import freeze
from daybreak.finetune.methods import make_trainable
from daybreak.finetune.offloaded import blocks_of, frozen_tensors, offload
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.settings import FinetuneSettings

CPU = torch.device("cpu")
SAVE = {"sd": tiny.save_sd, "sd3": tiny.save_sd3, "prx": tiny.save_prx, "own": None, **tiny_today.SAVE}


def gradients(family, trained, rows, text):
    """Of two steps' losses, as training computes them."""
    x = torch.randn(2, family.row_channels(rows.shape[1]), *rows.shape[2:], generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.3, 0.7]) if family.denoiser == "transformer" else torch.tensor([300, 700])
    family.network.train()
    found = []
    for scale in (1.0, 2.0):
        output = family.predict(family.network, scale * x, t, text)
        output.square().mean().backward()
        found += [output.detach()]
    return found + [p.grad for p in trained.parameters.values() if p.grad is not None]


def stir(parameters):
    for parameter in parameters:
        parameter.data += 0.1 * torch.randn_like(parameter)


def alive(network):
    """Bytes of the storages of its frozen blocks."""
    storages = {t.untyped_storage() for block in blocks_of(network) for t in frozen_tensors(block)}
    return sum(s.nbytes() for s in storages)


@pytest.mark.parametrize("name, method, kind", [
    ("sd", "dora", None), ("sd3", "lora", "nf4"), ("prx", "lokr", None), ("own", "lora", None), ("flux2", "loha", None),
    ("z_image", "lora", "int8"), ("chroma", "lora", None),
])  # fmt: skip
def test_gradients_through_offloaded_blocks_are_those_of_blocks_that_stay(name, method, kind, finished_run, tmp_path):
    base = finished_run if SAVE[name] is None else SAVE[name](tmp_path / name)
    found = []
    for offloaded in (False, True):
        family = family_of(open_base(str(base)), name)
        settings = FinetuneSettings(base=name, data="d", method=method, rank=2, offload=offloaded)
        torch.manual_seed(0)
        stir(family.network.parameters())  # gates of a new transformer are zero
        if kind is not None:
            freeze(family.network, kind)
        trained = make_trainable(family, settings)
        stir(trained.parameters.values())
        whole = alive(family.network)
        if offloaded:
            blocks = blocks_of(family.network)
            largest = sorted(sum(t.nbytes for t in frozen_tensors(block)) for block in blocks)[-2:]
            offload(family.network, CPU)
            assert alive(family.network) < 0.2 * whole and len(blocks) > 1
        with torch.no_grad():
            rows = family.rows(torch.zeros(2, 3, 16, 16))
            text = family.text(["a red circle", "a dog"])
        found.append(gradients(family, trained, rows, text))
        if offloaded:
            assert alive(family.network) <= sum(largest) + 0.1 * whole
            drawn_after(family)
    stayed, moved = found
    assert len(stayed) == len(moved) > 3 and any(g.abs().max() > 0 for g in stayed[2:])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(moved, stayed, strict=True))


def drawn_after(family):
    with torch.no_grad():
        options = {"use_resolution_binning": False} if type(family.pipeline).__name__.startswith("PRX") else {}
        family.pipeline.set_progress_bar_config(disable=True)
        images = family.pipeline(
            prompt="a dog", num_inference_steps=1, height=16, width=16, output_type="pt", **options
        ).images
    assert torch.isfinite(images).all()


class Places:
    """Where the networks of a pipeline were last sent: there need be no such device."""

    def __init__(self, family):
        self.parts = {id(part): "cpu" for part in family.parts()}
        self.sizes = {id(p): sum(t.nbytes for t in p.parameters()) for p in family.parts()}
        for part in family.parts():
            part.to = partial(self.send, part)

    def send(self, part, *args, **options):
        (device,) = (a for a in (*args, *options.values()) if isinstance(a, str | torch.device))
        self.parts[id(part)] = torch.device(device).type
        return part

    def bytes(self, kind):
        return sum(self.sizes[part] for part, place in self.parts.items() if place == kind)


@pytest.mark.parametrize("changes", [{}, {"shuffle_tags": True}])
def test_text_encoders_are_off_a_gpu_but_for_drawing_and_the_plan_says_so(changes, base, monkeypatch):
    settings = FinetuneSettings(
        base=str(base), data="d", method="lora", micro_batch=1, ema=0.0, precision="float32", **changes
    )
    prepared = open_prepared(settings, CPU)
    family = prepared.family
    gpu = prepared.device = torch.device("cuda", 0)
    monkeypatch.setattr(memory, "device_bytes", lambda _: 1e12)
    plan = memory.make_plan(family, settings, prepared.trained.count(), 16, torch.float32, gpu)
    parts, places = dict(plan.parts), Places(family)
    resting = [family.pipeline.vae, *([] if changes else [family.pipeline.text_encoder])]  # else it reads in every step
    away = sum(t.nbytes for part in resting for t in part.parameters())
    with prepared.drawing():
        drawing = places.bytes("cuda")
        assert places.bytes("cpu") == 0
    assert places.bytes("cpu") == away == dict(plan.elsewhere)["text encoders and autoencoder, but for drawing"]
    there = parts["weights, frozen"] + parts["weights, trained (float32)"]
    assert places.bytes("cuda") == there == drawing - away
    assert plan.drawing == drawing + memory.CONTEXT + parts["optimiser (32 bit)"]


def test_the_plan_is_near_what_a_step_takes(tmp_path):
    base = tiny.save_sd(tmp_path / "base")
    tiny.unet(block_out_channels=(64, 128), norm_num_groups=32).save_pretrained(base / "unet")
    pictures = tiny.write_pictures(tmp_path / "pictures", 4, side=32)
    taken = {}
    for name, changes in {
        "full": {"method": "full"}, "lora": {"method": "lora"}, "nf4": {"method": "lora", "base_weights": "nf4"},
        "offloaded": {"method": "lora", "offload": True},
    }.items():  # fmt: skip
        told = {"resolution": 32, "precision": "float32"} | changes
        plan, most = measured_step(base, pictures, tmp_path / name, **told)
        near = 1.5 if name == "offloaded" else 1.25  # of a network this small, little stays
        assert 1 / near < plan.step / most < near, (name, plan, most)
        taken[name] = most
    assert taken["full"] > taken["lora"] > taken["offloaded"]


def test_the_plan_proposes_the_cheapest_set_that_fits(base, monkeypatch):
    settings = FinetuneSettings(base=str(base), data="d", method="lora", batch=1, recompute=True)
    prepared = open_prepared(settings, CPU)

    def plan(told):
        return memory.make_plan(prepared.family, told, prepared.trained.count(), 16, torch.float32, CPU)

    least = plan(settings).total
    plain, network = memory.held_bytes(prepared.family.network, 4), prepared.family.network
    saved = {kind: plain - memory.held_bytes(network, 4, kind) for kind in ("int8", "nf4")}
    frozen = [dict(plan(told).parts)["weights, frozen"] for told in (settings, replace(settings, offload=True))]
    offloaded = frozen[0] - frozen[1]
    assert offloaded > saved["nf4"] > saved["int8"] > 0
    for room, words in (
        (least - 0.999 * saved["int8"], "with --base-weights int8 it takes"),
        (least - 0.999 * saved["nf4"], "with --base-weights nf4 it takes"),
        (least - 0.999 * offloaded, "with --offload it takes"),
        (1000.0, "a smaller --resolution"),
    ):
        monkeypatch.setattr(memory, "device_bytes", lambda _, room=room: room / memory.FILL)
        with pytest.raises(ConfigError, match=words):
            plan(settings)
    whole = FinetuneSettings(base=str(base), data="d", batch=1, recompute=True, held_out=0.0)
    prepared = open_prepared(whole, CPU)
    count = prepared.trained.count()
    monkeypatch.setattr(memory, "device_bytes", lambda _: 1e12)
    least = plan(whole).total
    for spared, words in (
        (6, "with --adam-8bit it takes"),
        (10, "with --adam-8bit --ema 0 it takes"),
        (11, "--method lora"),
    ):
        room = least - (spared - 0.01) * count
        monkeypatch.setattr(memory, "device_bytes", lambda _, room=room: room / memory.FILL)
        with pytest.raises(ConfigError, match=words):
            plan(whole)
