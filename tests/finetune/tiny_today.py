"""Tiny real pipelines of the bases of today, with their real classes: FLUX.2 [klein], Z-Image, Chroma."""

from pathlib import Path

import torch

from tests.finetune import tiny


def language_model(layers: int):
    """A Qwen3 and its tokenizer over the tests' words, with a chat template."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    _, tokenizer = tiny.t5(16)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    config = Qwen3Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, vocab_size=len(tokenizer), pad_token_id=0,
    )  # fmt: skip
    return Qwen3ForCausalLM(config), tokenizer


def save_flux2(path: Path) -> Path:
    """FLUX.2 [klein]; its text is read from layers 9, 18 and 27."""
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )

    torch.manual_seed(6)
    encoder, tokenizer = language_model(28)
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    autoencoder.bn.running_mean += 0.1 * torch.randn(16)
    autoencoder.bn.running_var *= 1.5
    Flux2KleinPipeline(
        vae=autoencoder, text_encoder=encoder, tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=48, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
    ).save_pretrained(path)  # fmt: skip
    return path


def save_z_image(path: Path) -> Path:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    torch.manual_seed(7)
    encoder, tokenizer = language_model(3)
    ZImagePipeline(
        vae=tiny.vae(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=encoder.model, tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(
            in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
            axes_dims=[8, 4, 4], axes_lens=[64, 32, 32],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(path)  # fmt: skip
    return path


def save_chroma(path: Path) -> Path:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    torch.manual_seed(8)
    encoder, tokenizer = tiny.t5(16)
    ChromaPipeline(
        vae=tiny.vae(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=encoder, tokenizer=tokenizer,
        transformer=ChromaTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=16, axes_dims_rope=(4, 4, 8), approximator_num_channels=64,
            approximator_hidden_dim=16, approximator_layers=1,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(path)  # fmt: skip
    return path


SAVE = {"flux2": save_flux2, "z_image": save_z_image, "chroma": save_chroma}
