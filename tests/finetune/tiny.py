"""Tiny real pipelines, built with the real classes and saved as their users find them."""

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from safetensors.torch import load_file

import daybreak
from daybreak import checkpoint_files
from daybreak.commands.finetune import run_finetune
from daybreak.finetune.report import probes_of
from daybreak.finetune.settings import FinetuneSettings

WORDS = "a an the photo of in style red blue green yellow circle square triangle on white dark big small dog"
CLIP = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip_tokenizer():
    from transformers import CLIPTokenizer

    letters = list("abcdefghijklmnopqrstuvwxyz-0123456789.,<>")
    entries = ["<|startoftext|>", "<|endoftext|>", *(w + "</w>" for w in WORDS.split()), *letters]
    entries = list(dict.fromkeys([*entries, *(c + "</w>" for c in letters)]))
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(entries)}, merges=[], model_max_length=48)


def clip_text(projected: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = len(clip_tokenizer())
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "projection_dim": 16}
    config = CLIPTextConfig(**CLIP, **special, vocab_size=vocabulary, max_position_embeddings=48)
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def vae(channels: int = 4, **options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=channels, norm_num_groups=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **options,
    )  # fmt: skip


def unet(**options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        **{
            "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "norm_num_groups": 4,
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 16, "attention_head_dim": 4,
        }
        | options
    )  # fmt: skip


def save_sd(path: Path, predicts: str = "epsilon") -> Path:
    """Stable Diffusion at 16 px, latents 8 x 8."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(0)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        prediction_type=predicts, set_alpha_to_one=False,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae(), text_encoder=clip_text(), tokenizer=clip_tokenizer(), unet=unet(), scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(path)  # fmt: skip
    return path


def save_sd2(path: Path) -> Path:
    """Stable Diffusion 2, which predicts v; its text is as wide as published, by which programs tell it from 1."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(9)
    text = CLIPTextConfig(
        hidden_size=1024, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu",
        bos_token_id=0, eos_token_id=1, pad_token_id=1, vocab_size=len(clip_tokenizer()), max_position_embeddings=48,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        prediction_type="v_prediction", set_alpha_to_one=False,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae(), text_encoder=CLIPTextModel(text), tokenizer=clip_tokenizer(), scheduler=scheduler,
        unet=unet(cross_attention_dim=1024, use_linear_projection=True),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(path)  # fmt: skip
    return path


def save_sdxl(path: Path) -> Path:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(1)
    StableDiffusionXLPipeline(
        vae=vae(), text_encoder=clip_text(), text_encoder_2=clip_text(True), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
                  projection_class_embeddings_input_dim=16 + 6 * 8),
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    ).save_pretrained(path)  # fmt: skip
    return path


def t5(width: int):
    """A T5 encoder and its tokenizer over the same words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS.split())])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **special)
    config = T5Config(vocab_size=len(words), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config), fast


def save_sd3(path: Path) -> Path:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(2)
    encoder, tokenizer = t5(32)
    StableDiffusion3Pipeline(
        vae=vae(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(True), text_encoder_2=clip_text(True), text_encoder_3=encoder,
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), tokenizer_3=tokenizer,
        transformer=SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=4,
            pos_embed_max_size=8,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(path)  # fmt: skip
    return path


def save_flux(path: Path) -> Path:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(3)
    encoder, tokenizer = t5(16)
    FluxPipeline(
        vae=vae(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(), text_encoder_2=encoder, tokenizer=clip_tokenizer(), tokenizer_2=tokenizer,
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(path)  # fmt: skip
    return path


def prx_transformer(**options):
    from diffusers import PRXTransformer2DModel

    sizes = {"patch_size": 2, "context_in_dim": 32, "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2}
    return PRXTransformer2DModel(**(sizes | {"axes_dim": [8, 8]} | options))


def save_prx(path: Path) -> Path:
    """PRX in latents, with T5Gemma's encoder as published."""
    from diffusers import FlowMatchEulerDiscreteScheduler, PRXPipeline
    from transformers import T5GemmaConfig, T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    torch.manual_seed(4)
    _, tokenizer = t5(32)
    layers = T5GemmaModuleConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    config = T5GemmaConfig(encoder=layers, decoder=layers, vocab_size=len(tokenizer))
    PRXPipeline(
        transformer=prx_transformer(in_channels=4), vae=vae(shift_factor=0.06), tokenizer=tokenizer,
        text_encoder=T5GemmaEncoder(config.encoder), default_sample_size=16,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(path)  # fmt: skip
    # The published folder has the configuration of the whole T5Gemma, which diffusers looks into for the encoder's.
    config.save_pretrained(path / "text_encoder")
    return path


def save_prx_pixel(path: Path) -> Path:
    """PRX in pixels, with Qwen3-VL's language model as published."""
    from diffusers import FlowMatchEulerDiscreteScheduler, PRXPixelPipeline
    from transformers import Qwen3VLTextConfig, Qwen3VLTextModel

    torch.manual_seed(5)
    _, tokenizer = t5(32)
    text = Qwen3VLTextConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, vocab_size=len(tokenizer), pad_token_id=0,
        rope_parameters={"rope_type": "default", "mrope_section": [4, 2, 2]},
    )  # fmt: skip
    PRXPixelPipeline(
        transformer=prx_transformer(in_channels=3, patch_size=4, bottleneck_size=16, resolution_embeds=True),
        text_encoder=Qwen3VLTextModel(text), tokenizer=tokenizer, default_sample_size=16, prompt_max_tokens=12,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), noise_scale=2.0,
    ).save_pretrained(path)  # fmt: skip
    return path


MIXED = [(40, 40)] * 7 + [(40, 64)] * 9 + [(100, 60)] * 5 + [(75, 48)] * 3 + [(25, 34)]
"""Sizes of pictures that have four shapes at 32 px; one has a single picture, which is smaller than its bucket."""


def write_pictures(
    folder: Path, count: int = 24, side: int = 16, shape: str = "circle", seed: int = 0, sizes=None
) -> Path:
    """Coloured shapes on white, captioned; of these sizes in place of squares."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 160, 30), "yellow": (230, 220, 30)}
    for i, size in enumerate(sizes or [(side, side)] * count):
        name, side = list(colours)[i % 4], min(size)
        image = Image.new("RGB", size, (255, 255, 255))
        x, y = rng.integers(0, side // 3, 2).tolist()
        box = (x, y, x + side // 2, y + side // 2)
        draw = ImageDraw.Draw(image)
        (draw.ellipse if shape == "circle" else draw.rectangle)(box, fill=colours[name])
        image.save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(f"a {name} {shape} on white")
    return folder


QUICK = {"batch": 8, "steps": 8, "sample_every": 8, "sample_steps": 1, "sampler": "ddim", "warmup_steps": 0, "ema": 0.5,
         "general_prompts": ("a dog", "the big dog"), "prompts": ("a red circle",), "drop_captions": 0.0,
         "report": False}  # fmt: skip


def finetune(base, pictures, out, find_lr=False, bell=None, **changes):
    settings = FinetuneSettings(base=str(base), data=str(pictures), **(QUICK | changes))
    daybreak.STARTED = time.time()  # a deadline counts from the command's moment
    return run_finetune(Console(quiet=True), settings, out, find_lr=find_lr, bell=bell)


def stored(run):
    """The tensors of the newest checkpoint, by name: weights, averages, the optimiser's, the generator's."""
    folder = checkpoint_files.complete(run)[-1]
    assert checkpoint_files.damage(folder) is None
    return {k: v for file in (folder / "training").glob("*.safetensors") for k, v in load_file(file).items()}


def check_same(run, other):
    """Both runs ended in the same bits."""
    ours, theirs = stored(run), stored(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]


def probes(run):
    return probes_of(run)


def drawn(pipeline, prompt="a red circle on white"):
    generator = torch.Generator().manual_seed(3)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(prompt, num_inference_steps=2, height=16, width=16, generator=generator, output_type="pt").images
