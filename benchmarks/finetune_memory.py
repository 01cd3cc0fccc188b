"""What fine-tuning takes of a GPU, by base and method: the plan of `daybreak finetune`, at the bases' true sizes.

    python benchmarks/finetune_memory.py [--gib 24]    # at the bases' true sizes
    python benchmarks/finetune_memory.py --measure     # small bases: the plan beside the most bytes alive in a step

The networks of the first have no storage (torch's "meta" device) and the sizes of the published configurations; no
weights are read. Neither needs a GPU. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from daybreak.config import ConfigError
from daybreak.finetune import memory
from daybreak.finetune.families import family_of
from daybreak.finetune.methods import make_trainable
from daybreak.finetune.settings import FinetuneSettings
from tests.finetune import tiny
from tests.finetune.measured import measured_step
from tests.finetune.tiny import clip_tokenizer

GIB, MIB = 2**30, 2**20
AUTOENCODER = {
    "block_out_channels": (8,) * 4, "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
"""Of the published factor; narrow, since latents are cached and it takes nothing of the GPU in training."""
LARGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
BIG = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}


def stable_diffusion_15() -> Any:
    """860 M parameters in the denoiser, 512 px."""
    return StableDiffusionPipeline(
        vae=AutoencoderKL(**AUTOENCODER), text_encoder=CLIPTextModel(CLIPTextConfig(**LARGE)),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), tokenizer=clip_tokenizer(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> Any:
    """2.6 B parameters in the denoiser, 1024 px."""
    unet = UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(**AUTOENCODER), text_encoder=CLIPTextModel(CLIPTextConfig(**LARGE)),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**BIG, projection_dim=1280)), unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
    )  # fmt: skip


BASES = {
    "Stable Diffusion 1.5, 512 px": (stable_diffusion_15, 512),
    "Stable Diffusion XL, 1024 px": (stable_diffusion_xl, 1024),
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full, 8-bit AdamW, no EMA": {"method": "full", "adam_8bit": True, "ema": 0.0},
    "LoRA, rank 16": {"method": "lora", "rank": 16},
    "LoRA, rank 16, one picture at once": {"method": "lora", "rank": 16, "micro_batch": 1},
}


SMALL: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full, no EMA": {"method": "full", "ema": 0.0},
    "full, recomputed": {"method": "full", "recompute": True},
    "LoRA": {"method": "lora"},
    "LoRA, recomputed": {"method": "lora", "recompute": True},
    "LoRA, int8": {"method": "lora", "base_weights": "int8"},
    "LoRA, NF4": {"method": "lora", "base_weights": "nf4"},
    "LoRA, offloaded": {"method": "lora", "offload": True},
    "LoRA, NF4, offloaded": {"method": "lora", "base_weights": "nf4", "offload": True},
}


def small_bases(folder: Path) -> dict[str, Path]:
    """A UNet of 20 M parameters and a transformer of 17 M, with weights, and tiny parts beside them."""
    torch.manual_seed(0)
    sd, flux = tiny.save_sd(folder / "sd"), tiny.save_flux(folder / "flux")
    unet = tiny.unet(block_out_channels=(64, 128), norm_num_groups=32, layers_per_block=2, attention_head_dim=8)
    unet.save_pretrained(sd / "unet")
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=3, num_single_layers=6, attention_head_dim=32, num_attention_heads=6,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(8, 8, 16),
    )  # fmt: skip
    transformer.save_pretrained(flux / "transformer")
    return {"UNet": sd, "FLUX.1": flux}


def measure() -> None:
    """The second table: in float32, four pictures of 64 px at once."""
    print("| base | method | plan, MiB | measured, MiB | plan / measured |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        squares = tiny.write_pictures(folder / "squares", 8, side=64)
        mixed = tiny.write_pictures(folder / "mixed", sizes=[(64, 64)] * 4 + [(96, 64)] * 4 + [(64, 96)] * 4)
        for base, place in small_bases(folder).items():
            for number, (name, changes) in enumerate((SMALL | {"LoRA, buckets": {"method": "lora"}}).items()):
                pictures = mixed if name.endswith("buckets") else squares
                told = {"resolution": 64, "precision": "float32", "rank": 16} | changes
                if changes["method"] == "full":
                    del told["rank"]
                plan, most = measured_step(place, pictures, folder / f"{place.name}-{number}", **told)
                ratio = plan.step / most
                print(f"| {base} | {name} | {plan.step / MIB:.0f} | {most / MIB:.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=24.0, help="memory of the card")
    parser.add_argument("--measure", action="store_true", help="the second table")
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    available = options.gib * GIB
    memory.device_bytes = lambda _device: available
    print(
        f"| base | method | GiB | fits {available / GIB:g} | pictures at once | recomputed |\n|---|---|---|---|---|---|"
    )
    for base, (build, side) in BASES.items():
        for name, changes in METHODS.items():
            with torch.device("meta"):
                family: Any = family_of(build(), base)
            family.rows = lambda p: torch.empty(1, 8, p.shape[2] // 8, p.shape[3] // 8)  # autocast knows no "meta"
            settings = FinetuneSettings(base="base", data="data", batch=8, **changes)
            trained = make_trainable(family, settings).count()
            fits = "yes"
            try:
                plan = memory.make_plan(family, settings, trained, side, torch.bfloat16, torch.device("cuda"))
            except ConfigError:
                least = replace(settings, micro_batch=1, recompute=True)
                plan = memory.make_plan(family, least, trained, side, torch.bfloat16, torch.device("cuda"))
                fits = "no"
            recomputed = "yes" if plan.recompute else "no"
            print(f"| {base} | {name} | {plan.total / GIB:.1f} | {fits} | {plan.at_once} | {recomputed} |")


if __name__ == "__main__":
    main()
