"""Other diffusers pipelines are served too: a tiny Stable Diffusion, built and saved by diffusers itself."""

import base64
import io
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoPipelineForImage2Image,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from daybreak.serve.jobs import Done, Job, Order
from daybreak.serve.open import open_served
from daybreak.serve.pipeline import PipelineModel
from daybreak.serve.settings import ServeSettings
from daybreak.serve.worker import Worker
from tests.finetune import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=8)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), unet=unet, scheduler=DDIMScheduler(clip_sample=False),
        tokenizer=CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=16),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("sd") / "tiny-sd"
    pipeline.save_pretrained(path)
    return path


def test_it_draws_what_the_pipeline_draws(folder, serving):
    with serving(f"sd={folder}") as server:
        (card,) = server.http.get("/v1/models").json()["data"]
        assert (card["id"], card["previews"], card["steps"], card["guidance"]) == ("sd", False, 50, 7.5)
        answer = server.draw("a cat", seed=4, steps=3, size="16x8", n=2)
        assert answer.status_code == 200, answer.text
        served = [np.asarray(Image.open(io.BytesIO(base64.b64decode(p["b64_json"])))) for p in answer.json()["data"]]
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    for i, picture in enumerate(served):
        generator = torch.Generator().manual_seed(4 + i)
        expected = pipeline(
            "a cat", num_inference_steps=3, width=16, height=8, generator=generator, output_type="np"
        ).images[0]
        assert np.abs(picture / 255 - expected).max() <= 1.5 / 255


def test_a_drawing_that_nobody_wants_ends_early(folder, monkeypatch):
    model = open_served(str(folder), ServeSettings(), torch.device("cpu"))
    events: list = []
    job = Job(Order("a cat", "", 16, 16, 900, 1.0, 1), events.append, time.monotonic() + 600)
    rows = model.begin([job])
    step, steps = model._pipeline.scheduler.step, []

    def leave_at_the_third(*arguments, **named):
        steps.append(job)
        job.cancelled = len(steps) >= 3
        return step(*arguments, **named)

    monkeypatch.setattr(model._pipeline.scheduler, "step", leave_at_the_third)
    model.advance(rows)
    assert len(steps) == 3
    assert not any(isinstance(e, Done) for e in events)


@pytest.mark.parametrize("save", [tiny.save_prx, tiny.save_prx_pixel])
def test_clients_of_a_prx_at_the_same_time_all_get_their_picture(save, tmp_path):
    """With guidance diffusers draws one at a time."""
    settings = ServeSettings()
    model = PipelineModel("prx", save(tmp_path / "prx"), settings, torch.device("cpu"))
    worker = Worker(model, settings)
    events: list = []
    orders = [Order("a dog", "", 16, 16, 2, 3.0, seed) for seed in range(2)]
    worker.queue.put([Job(order, events.append, time.monotonic() + 600) for order in orders])
    worker.queue.close()
    worker.run()
    assert [type(e) for e in events] == [Done, Done] and not np.array_equal(events[0].pixels, events[1].pixels)


def test_it_draws_on_from_a_picture_as_the_pipeline_does(folder, serving):
    rng = np.random.default_rng(0)
    given = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    alpha = np.dstack([given, np.repeat([[0] * 8 + [255] * 8], 16, 0).astype(np.uint8)])

    def file_of(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    with serving(f"sd={folder}") as server:
        assert server.http.get("/v1/models").json()["data"][0]["edits"]
        drawn = []
        for image in (given, alpha):
            fields = {"prompt": "a cat", "seed": 4, "steps": 5, "strength": 0.6, "size": "16x16"}
            answer = server.http.post("/v1/images/edits", data=fields, files={"image": file_of(image)})
            assert answer.status_code == 200, answer.text
            b64 = answer.json()["data"][0]["b64_json"]
            drawn.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(b64)))).astype(int))
    pipeline = AutoPipelineForImage2Image.from_pipe(StableDiffusionPipeline.from_pretrained(folder))
    expected = pipeline(
        "a cat", image=Image.fromarray(given), strength=0.6, num_inference_steps=5,
        generator=torch.Generator().manual_seed(4), output_type="np",
    ).images[0]  # fmt: skip
    assert np.abs(drawn[0] / 255 - expected).max() <= 1.5 / 255
    assert (drawn[1][:, 8:] == given[:, 8:]).all()  # what the mask keeps
    assert np.abs(drawn[1][:, :8] - given[:, :8]).mean() > 10
