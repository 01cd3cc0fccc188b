"""FLUX.2 [klein], Z-Image and Chroma: what we ask of their networks is what diffusers' own pipelines ask."""

import pytest
import tiny
import tiny_today
import torch
from diffusers import DiffusionPipeline
from rich.console import Console
from torch.nn import functional

from daybreak.commands.export import run_export
from daybreak.export.licences import Licences
from daybreak.finetune.activations import kept_bytes
from daybreak.finetune.bases import open_base
from daybreak.finetune.families import family_of
from daybreak.finetune.methods import make_trainable
from daybreak.finetune.process import process_of
from daybreak.finetune.result import open_result
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.step import StepRandomness, squared_errors

NAMES = list(tiny_today.SAVE)
GUIDANCE = {"z_image": 0.0}
"""That turns it off; 1 elsewhere."""
PROMPTS = ["a red circle", "the big dog on white"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("today")
    return {name: save(folder / name) for name, save in tiny_today.SAVE.items()}


def as_picture(tokens, shape):
    """What a scheduler sees, as a family has it: FLUX.2's tokens are patches, Chroma's four channels of two by two."""
    if tokens.shape == shape:
        return tokens
    b, c, h, w = shape
    if tokens.shape[-1] == c:
        return tokens.permute(0, 2, 1).reshape(shape)
    return tokens.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(shape)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_and_pictures_are_the_pipelines(name, bases, monkeypatch):
    pipeline = open_base(str(bases[name]))
    family = family_of(pipeline, name)
    asked, step = [], pipeline.scheduler.step

    def record(output, t, latents, **options):
        asked.append((output, t, latents))
        return step(output, t, latents, **options)

    monkeypatch.setattr(pipeline.scheduler, "step", record)
    rows = family.rows(torch.zeros(2, 3, 16, 16))
    shape = (2, family.row_channels(rows.shape[1]), *rows.shape[2:])
    images = pipeline(
        prompt=list(PROMPTS), num_inference_steps=2, guidance_scale=GUIDANCE.get(name, 1.0), height=16, width=16,
        output_type="pt",
        generator=[torch.Generator().manual_seed(i) for i in range(2)],
    ).images  # fmt: skip
    assert len(asked) == 2
    with torch.no_grad():
        for output, t, latents in asked:
            times = (t / 1000).expand(2)
            ours = family.predict(family.network, as_picture(latents, shape), times, family.text(PROMPTS))
            assert torch.allclose(ours, as_picture(output, shape), atol=1e-5)
        output, t, latents = asked[-1]
        last = as_picture(latents, shape) - float(pipeline.scheduler.sigmas[1]) * as_picture(output, shape)
        assert torch.allclose(family.decode(last) / 2 + 0.5, images, atol=1e-5)
        picture = torch.rand(2, 3, 16, 16) * 2 - 1
        encoded = family.x0(family.rows(picture), torch.zeros(shape))
        plain = pipeline.vae.decode(pipeline.vae.encode(picture).latent_dist.mean).sample.clamp(-1, 1)
        assert torch.allclose(family.decode(encoded), plain, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_against_the_flow_written_out(name, bases):
    pipeline = open_base(str(bases[name]))
    family = family_of(pipeline, name)
    settings = FinetuneSettings(base=str(bases[name]), data="d", method="lora", rank=2)
    process, trained = process_of(pipeline, settings), make_trainable(family, settings)
    rows = family.rows(torch.rand(2, 3, 16, 16) * 2 - 1)
    shape = (2, family.row_channels(rows.shape[1]), *rows.shape[2:])
    random = StepRandomness.draw(shape, process, 0.0, 0.0, False, torch.Generator().manual_seed(0))
    text = {k: v.detach() for k, v in family.text(PROMPTS).items()}
    loss = squared_errors(family, family.network, process, rows, text, random).mean()
    loss.backward()
    ours = {k: p.grad.clone() for k, p in trained.parameters.items() if p.grad is not None}
    for parameter in trained.parameters.values():
        parameter.grad = None
    x0, t = family.x0(rows, random.posterior), random.t.view(-1, 1, 1, 1)
    output = family.predict(family.network, (1 - t) * x0 + t * random.noise, random.t, text)
    reference = functional.mse_loss(output, random.noise - x0)
    reference.backward()
    assert abs(loss.item() - reference.item()) < 1e-5 and ours
    assert all(torch.allclose(ours[k], p.grad, atol=1e-5) for k, p in trained.parameters.items() if k in ours)
    assert kept_bytes(family, settings, 16, recompute=False) > 0


def drawn(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    options = {"num_inference_steps": 2, "height": 16, "width": 16, "output_type": "pt"}
    return pipeline(prompt="a red circle on white", generator=generator, **options).images


def changed_layers(exported, base):
    after, before = (DiffusionPipeline.from_pretrained(place).transformer.state_dict() for place in (exported, base))
    return [key for key in before if not torch.equal(after[key], before[key])]


@pytest.mark.parametrize("name, method", [("flux2", "lora"), ("z_image", "lokr"), ("chroma", "lora")])
def test_trained_exported_opened(name, method, bases, pictures, tmp_path):
    changes = {"lr": 0.2, "steps": 4, "rank": 4, "resolution": 16, "prompts": ("a dog",)}
    run = tiny.finetune(bases[name], pictures, tmp_path / "run", method=method, **changes)
    out = tmp_path / "exported"
    with run.base.averages.in_place():
        expected = drawn(run.base.family.pipeline)
    assert torch.allclose(drawn(open_result(run.folder)), expected, atol=1e-5)
    run_export(Console(quiet=True), run.folder, "diffusers", out, "float32", Licences(None, None))
    exported = drawn(DiffusionPipeline.from_pretrained(out))
    assert torch.allclose(exported, expected, atol=1e-4)
    assert run.base.trained.parameters and changed_layers(out, bases[name])
    assert f"`{name}`" in (out / "README.md").read_text()
