"""Training steps to be timed: a recipe's sizes, its frozen networks with random weights, pictures and captions.

Random weights are fair for speed, since no operation here takes longer for one number than for another; nothing is
downloaded. `SIZES` are the sizes that can be asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from transformers import (
    AutoModel,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    PreTrainedTokenizerFast,
    T5GemmaConfig,
    T5GemmaEncoderModel,
    T5GemmaModuleConfig,
)

from daybreak.config import (
    AlignmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    PerceptualConfig,
    RoutingConfig,
    TextConfig,
    TrainConfig,
)
from daybreak.data.batch import Batch
from daybreak.data.scenes.source import ScenesSource
from daybreak.encoders.pretrained_text import PretrainedTextEncoder
from daybreak.encoders.text import TextEncoder
from daybreak.encoders.tokenizer import END, PAD, CaptionTokenizer
from daybreak.encoders.vision import _KINDS, TransformersTeacher, VisionTeacher, open_teacher
from daybreak.losses.objective import Objective
from daybreak.losses.perceptual import LPIPS, VGG16Features, open_lpips
from daybreak.losses.repa import Projector
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import build_optimizers
from daybreak.plan.networks import config_of
from daybreak.plan.networks import published as published_networks
from daybreak.recipes import recipe
from daybreak.train.ema import averaged_copy
from daybreak.train.pixel import Pixel
from daybreak.train.precision import lower_precision, muon_dtype

RANDOM_VGG = "random"
"""As perceptual.lpips_network: VGG16 with random weights."""


def _small_t5gemma() -> T5GemmaConfig:
    half = T5GemmaModuleConfig(
        hidden_size=512, num_hidden_layers=12, intermediate_size=2048, num_attention_heads=4, num_key_value_heads=2,
        head_dim=128, vocab_size=4096,
    )  # fmt: skip
    return T5GemmaConfig(encoder=half, decoder=half, is_encoder_decoder=False)


published_networks().update(
    {
        "small-dinov3": lambda: DINOv3ViTConfig(
            hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, patch_size=16,
            num_register_tokens=4,
        ),
        "small-dinov2": lambda: Dinov2WithRegistersConfig(
            hidden_size=96, num_hidden_layers=12, num_attention_heads=3, patch_size=14, image_size=518,
            num_register_tokens=4,
        ),
        "small-t5gemma": _small_t5gemma,
    }
)  # fmt: skip


def small() -> Config:
    """Every part of the speedrun, about 40 times smaller each, so that their shares of a step stay about the same.

    27 M parameters, 256 image tokens at 256 px. Only VGG16 has no smaller form; it sees a quarter of the side.
    """
    return Config(
        recipe="small",
        data=DataConfig(source="folder", resolution=256),
        text=TextConfig(pretrained="small-t5gemma", max_tokens=256),
        model=ModelConfig(width=384, depth=8, heads=6, mlp_ratio=3.5, patch=16, bottleneck=128),
        routing=RoutingConfig(keep=0.5, start=2, end=7),
        alignment=AlignmentConfig(weight=0.5, teacher="small-dinov3", layer=4, projector_width=192),
        perceptual=PerceptualConfig(
            lpips=0.1, lpips_network=RANDOM_VGG, lpips_scale=0.25, dino=0.01, dino_teacher="small-dinov2",
            dino_resolution=224,
        ),
        train=TrainConfig(batch=8, steps=1000, ema=0.999, ema_every=10),
    )  # fmt: skip


def published() -> Config:
    """The 24-hour speedrun at its published sizes."""
    c = recipe("speedrun")
    return replace(
        c,
        perceptual=replace(c.perceptual, lpips_network=RANDOM_VGG),
        # REPA's projector of the published code is as wide as its teacher.
        alignment=replace(c.alignment, projector_width=1024),
        train=replace(c.train, batch=32, compile=False),
        stages=(),
    )


SIZES: dict[str, Callable[[], Config]] = {
    "scenes": lambda: recipe("scenes"),
    "scenes-stack": lambda: replace(recipe("scenes-stack"), stages=()),
    "small": small,
    "published": published,
}


def only(config: Config, parts: str) -> Config:
    """The config with these parts alone: "all", "none", or some of routing+alignment+lpips+dino joined by +."""
    wanted = {"routing", "alignment", "lpips", "dino"} if parts == "all" else set(parts.split("+")) - {"none"}
    if unknown := wanted - {"routing", "alignment", "lpips", "dino"}:
        raise SystemExit(f"--parts {parts}: unknown {', '.join(unknown)}; there are routing, alignment, lpips and dino")
    c = config
    return replace(
        c,
        routing=c.routing if "routing" in wanted else replace(c.routing, keep=1.0),
        alignment=c.alignment if "alignment" in wanted else replace(c.alignment, weight=0.0),
        perceptual=replace(
            c.perceptual,
            lpips=c.perceptual.lpips if "lpips" in wanted else 0.0,
            dino=c.perceptual.dino if "dino" in wanted else 0.0,
        ),
    )


WORDS = """a photo of small red large wooden bright quiet old glass river house table bird mountain light behind in
front beside the with soft evening morning shadow two three people walking market street flowers painted detailed"""


def captions(n: int, words: tuple[int, int], seed: int = 0) -> list[str]:
    """n captions with a number of words drawn evenly from `words` = (least, most)."""
    rng = random.Random(seed)
    words_of = WORDS.split()
    return [" ".join(rng.choices(words_of, k=rng.randint(*words))) for _ in range(n)]


def batches(config: Config, n: int, words: tuple[int, int]) -> list[Batch]:
    """n batches: scenes for a recipe of scenes, noise with drawn captions for the others."""
    size, side = config.train.batch, config.data.resolution
    if config.data.source == "scenes":
        source = ScenesSource(side, 0, config.data.task_weights)
        return [source.batch(i * size, size) for i in range(n)]
    generator = torch.Generator().manual_seed(0)
    lines = captions(n * size, words)
    return [
        Batch(torch.rand(size, 3, side, side, generator=generator) * 2 - 1, lines[i * size : (i + 1) * size])
        for i in range(n)
    ]


def random_network(name: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The network of that name in `plan/networks.py`, with random weights."""
    config = config_of(name, name)
    kind = T5GemmaEncoderModel if config.model_type == "t5gemma" else None
    with torch.device(device):
        network = kind(config) if kind is not None else AutoModel.from_config(config)
    return network.to(dtype).eval().requires_grad_(False)


def open_text(config: Config, dtype: torch.dtype, device: torch.device) -> TextEncoder:
    """The text encoder: the embedded one, or the named one with random weights."""
    if config.text.pretrained is None:
        return TextEncoder.create(captions(500, (3, 20)), config.text).to(device)
    trained = CaptionTokenizer.train(captions(2000, (3, 60)), replace(config.text, vocabulary=4096))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained.tokenizer, pad_token=PAD, eos_token=END)
    return PretrainedTextEncoder(
        tokenizer, random_network(config.text.pretrained, dtype, device), config.text.max_tokens
    )


def open_objective(config: Config, dtype: torch.dtype, device: torch.device) -> Objective:
    """The losses' networks, frozen ones in `dtype`."""

    def teacher(name: str) -> VisionTeacher:
        if name == "embedded":
            return open_teacher(name, name).to(device)
        network = random_network(name, dtype, device)
        return TransformersTeacher(network, _KINDS[network.config.model_type]).to(device)

    a, p = config.alignment, config.perceptual
    first = teacher(a.teacher) if a.weight else None
    projector = Projector(config.model.width, first.width, a).to(device) if first is not None else None
    lpips = None
    if p.lpips and p.lpips_network == RANDOM_VGG:
        lpips = LPIPS(VGG16Features(), [torch.rand(c) for c in (64, 128, 256, 512, 512)]).to(device, dtype)
    elif p.lpips:
        lpips = open_lpips(p.lpips_network, p.lpips_heads).to(device)
    second = None
    if p.dino:
        second = first if first is not None and p.dino_teacher == a.teacher else teacher(p.dino_teacher)
    return Objective(first, projector, lpips, second)


def open_state(config: Config, device: torch.device) -> Pixel:
    """A run's state as `Pixel.create` makes it, with random weights in the frozen networks."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if lower_precision(config, device) else torch.float32
    text_encoder = open_text(config, dtype, device)
    transformer = Transformer(config.model, text_encoder.width, config.routing).to(device)
    objective = open_objective(config, dtype, device)
    modules: dict[str, nn.Module] = {"transformer": transformer, "text_encoder": text_encoder, **objective.trained()}
    return Pixel(
        transformer=transformer,
        text_encoder=text_encoder,
        average=averaged_copy(transformer),
        average_text=text_encoder if text_encoder.frozen else averaged_copy(text_encoder),
        optimizers=build_optimizers(modules, config.optim, muon_dtype(config, device)),
        generator=torch.Generator().manual_seed(0),
        objective=objective,
        config=config,
    )
