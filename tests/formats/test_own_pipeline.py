"""The pipeline that exported models bring along, called as people call pipelines."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from daybreak.config import ModelConfig, RoutingConfig, TextConfig
from daybreak.encoders.pretrained_text import PretrainedTextEncoder
from daybreak.encoders.text import TextEncoder
from daybreak.formats.own_pipeline import DaybreakPipeline
from daybreak.formats.own_transformer import DaybreakTransformer
from daybreak.formats.text_parts import to_transformers
from tests.encoders.test_pretrained_text import saved
from tests.export.test_export import PROMPTS
from tests.formats.test_prx_keys import randomize


def pipeline_of(text_encoder: TextEncoder, **settings: object) -> DaybreakPipeline:
    config = ModelConfig(32, 2, 2, convolutions=(8, 12), pooled_text=True)
    transformer = DaybreakTransformer(text_encoder.width, asdict(config), asdict(RoutingConfig())).eval()
    randomize(transformer)
    made = DaybreakPipeline(
        transformer, *to_transformers(text_encoder, torch.float32),
        **{"steps": 3, "guidance": 2.0, "shift": 2.0} | settings,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipeline() -> DaybreakPipeline:
    torch.manual_seed(0)
    return pipeline_of(TextEncoder.create(PROMPTS, TextConfig(width=32, depth=1, heads=2)))


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def test_one_prompt_gives_one_picture(pipeline):
    (image,) = pipeline(PROMPTS[0]).images
    assert image.size == (32, 32) and image.mode == "RGB"


def test_forms_of_pictures_agree(pipeline):
    def drawn(kind: str) -> object:
        return pipeline(PROMPTS, generator=seeded(1, 2), output_type=kind, return_dict=False)[0]

    raw, pt, arrays, images = (drawn(kind) for kind in ("latent", "pt", "np", "pil"))
    torch.testing.assert_close(pt, (raw / 2 + 0.5).clamp(0, 1))
    assert np.array_equal(arrays, pt.permute(0, 2, 3, 1).numpy())
    assert np.abs(np.asarray(images[1]) - 255 * arrays[1]).max() <= 0.5


def test_noise_comes_from_generators_or_as_latents(pipeline):
    def draw(**how: object) -> torch.Tensor:
        return pipeline(PROMPTS, output_type="latent", **how).images

    both = draw(generator=seeded(1, 2))
    assert torch.equal(both, draw(generator=seeded(1, 2)))
    assert not torch.equal(both, draw(generator=seeded(1, 3)))
    noise = torch.stack([torch.randn(3, 32, 32, generator=g) for g in seeded(1, 2)])
    assert torch.equal(both, draw(latents=noise))
    alone = pipeline(PROMPTS[1], generator=seeded(2), output_type="latent").images
    torch.testing.assert_close(alone[0], both[1], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="1 generators for 2 pictures"):
        draw(generator=seeded(1))


def test_size_steps_guidance_and_negative_prompt_count(pipeline):
    def draw(**how: object) -> torch.Tensor:
        return pipeline(PROMPTS[0], generator=seeded(1), output_type="latent", **how).images

    assert draw(height=16, width=40).shape == (1, 3, 16, 40)
    assert torch.equal(draw(), draw(num_inference_steps=3, guidance_scale=2.0))
    changed = [draw(num_inference_steps=4), draw(guidance_scale=1.0), draw(negative_prompt="a red circle")]
    assert not any(torch.equal(draw(), other) for other in changed)
    assert draw(num_images_per_prompt=1).shape[0] == 1
    with pytest.raises(ValueError, match="does not divide into patches of 4 px"):
        draw(height=30)
    with pytest.raises(ValueError, match="2 negative prompts for 1 prompts"):
        draw(negative_prompt=["", ""])


def test_several_pictures_of_each_prompt_stand_together(pipeline):
    drawn = pipeline(PROMPTS, num_images_per_prompt=2, generator=seeded(1, 1, 1, 1), output_type="latent").images
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[2], drawn[3])
    assert not torch.equal(drawn[1], drawn[2])


def test_the_callback_sees_each_step_and_may_change_it(pipeline):
    seen = []

    def grey(_pipeline, step, t, tensors):
        seen.append((step, float(t)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else None

    drawn = pipeline(PROMPTS[0], output_type="latent", callback_on_step_end=grey).images
    assert not drawn.any()
    assert seen[0] == (0, 1.0) and [step for step, _ in seen] == [0, 1, 2]


def test_heun_is_followed():
    torch.manual_seed(0)
    text_encoder = TextEncoder.create(PROMPTS, TextConfig(width=32, depth=1, heads=2))
    euler, heun = (pipeline_of(text_encoder, sampler=s)(PROMPTS, generator=seeded(1, 2), output_type="latent").images
                   for s in ("euler", "heun"))  # fmt: skip
    assert not torch.equal(euler, heun)


def test_frozen_encoders_are_read_as_training_reads_them(tmp_path):
    """Qwen's tokenizer adds nothing to an empty caption, so all of it is masked."""
    saved("qwen3", tmp_path / "text")
    ours = PretrainedTextEncoder.open(TextConfig(pretrained=str(tmp_path / "text"), max_tokens=40))
    made = pipeline_of(ours, prompt_max_tokens=40)
    for prompts in ([*PROMPTS, ""], ["", ""]):
        with torch.no_grad():
            a, b = ours(prompts), made.encode(prompts)
        both = min(a.mask.shape[1], b.mask.shape[1])  # what lies behind is padding, of which training has other amounts
        assert torch.equal(a.mask[:, :both], b.mask[:, :both]) and a.padded == b.padded
        assert not a.mask[:, both:].any() and not b.mask[:, both:].any()
        torch.testing.assert_close(a.embeddings[:, :both], b.embeddings[:, :both], atol=1e-5, rtol=1e-5)
