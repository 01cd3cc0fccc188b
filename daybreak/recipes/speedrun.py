"""The published 24-hour recipe, and MiniT2I's."""

from __future__ import annotations

from dataclasses import replace

from daybreak.config import (
    AlignmentConfig,
    Config,
    DataConfig,
    DiffusionConfig,
    ModelConfig,
    OptimConfig,
    PerceptualConfig,
    RoutingConfig,
    SampleConfig,
    StageConfig,
    TextConfig,
    TrainConfig,
)


def speedrun() -> Config:
    """The 24-hour speedrun as published: 1.24 B parameters, 512 then 1024 px, every part on (give --data)."""
    return Config(
        recipe="speedrun",
        data=DataConfig(source="folder", resolution=512, workers=16),
        text=TextConfig(pretrained="google/t5gemma-2b-2b-ul2", max_tokens=256),
        model=ModelConfig(width=1792, depth=16, heads=28, mlp_ratio=3.5, patch=32, bottleneck=256),
        routing=RoutingConfig(keep=0.5, start=2, end=15),
        alignment=AlignmentConfig(weight=0.5, teacher="facebook/dinov3-vitl16-pretrain-lvd1689m", layer=8),
        perceptual=PerceptualConfig(
            lpips=0.1,
            lpips_network="weights/vgg16-397923af.pth",
            lpips_heads="weights/lpips-vgg.pth",
            dino=0.01,
            dino_teacher="facebook/dinov2-with-registers-base",
            dino_resolution=224,
        ),
        diffusion=DiffusionConfig(shift=3.0, floor=0.05),
        optim=OptimConfig(
            muon_lr=1e-4, adam_lr=1e-4, warmup_steps=1000, decay_share=0.0, clip_norm=0.2, weight_decay=0.0
        ),
        train=TrainConfig(steps=120_000, batch=1024, ema=0.999, ema_every=10, compile=True, save_minutes=30.0),
        sample=SampleConfig(guidance_kind="routed"),
        stages=(
            StageConfig(share=100 / 120),
            StageConfig(share=20 / 120, resolution=1024, batch=512, alignment=0.0),
        ),
    )


def speedrun2() -> Config:
    """The speedrun with what was measured to help, after long captions and stored text features (give --data).

    docs/speedrun2.md has the evidence of each part. The model stays PRX's.
    """
    base = speedrun()
    return replace(
        base,
        recipe="speedrun2",
        alignment=replace(base.alignment, until=0.4),
        sample=replace(base.sample, expand="Qwen/Qwen3-4B-Instruct-2507"),
    )


def minit2i() -> Config:
    """MiniT2I-B/16: 258 M parameters at 512 px, text and image in two streams, no time input (give --data)."""
    return Config(
        recipe="minit2i",
        data=DataConfig(source="folder", resolution=512, workers=16),
        text=TextConfig(pretrained="google/flan-t5-large", max_tokens=256),
        model=ModelConfig(
            width=768, depth=17, heads=12, mlp_ratio=8 / 3, patch=16, bottleneck=128, layout="joint",
            modulation="none", text_blocks=2,
        ),
        # Published in the other direction (t = 1 clean): logit-normal of mean -0.8.
        diffusion=DiffusionConfig(shift=1.0, floor=0.01, noise_scale=2.0, logit_mean=0.8, logit_std=0.8),
        optim=OptimConfig(matrices="adamw", adam_lr=4e-4, adam_betas=(0.9, 0.95), warmup_steps=5000, decay_share=0.0),
        train=TrainConfig(steps=250_000, batch=1024, ema=0.99995, compile=True, save_minutes=30.0),
        sample=SampleConfig(steps=100, guidance=6.0),
    )  # fmt: skip
