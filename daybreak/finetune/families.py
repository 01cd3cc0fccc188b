"""What differs between the kinds of base: how they read captions, keep pictures, and call their denoiser."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.finetune.process import FLOOR
from daybreak.formats.pipeline_folder import save_pipeline, settle_config

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
Text = dict[str, Tensor]
"""A caption as the denoiser reads it: tensors [B, ...] by name. In training `sizes` [B, 6] is beside it (shapes.py)."""


class Family:
    """A base of one kind. `denoiser`: the attribute of the pipeline that is trained.

    Captions become `Text`; pictures [B, 3, H, W] in [-1, 1] become rows that `x0` turns into what is diffused.
    """

    denoiser = "transformer"
    text_encoders: tuple[str, ...] = ()
    tokenizers: tuple[str, ...] = ("tokenizer",)
    targets: tuple[str, ...] = ATTENTION
    trains_text = False
    """Whether `text` can be differentiated."""
    attends = False
    """Whether cross-attention can be looked at."""
    guided_between = (0.0, 1.0)
    """Times at which the pipeline guides."""
    floor = FLOOR
    """Least divisor of t with which the pipeline makes a velocity of x0, where the network predicts that."""
    step = 32
    """By which sides of training pictures change, px, where their pixels allow it."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    @property
    def network(self) -> Any:
        """The denoiser."""
        return getattr(self.pipeline, self.denoiser)

    @property
    def encoders(self) -> dict[str, Any]:
        """The text encoders by name."""
        found = {name: getattr(self.pipeline, name, None) for name in self.text_encoders}
        return {k: v for k, v in found.items() if v is not None}

    def parts(self) -> list[nn.Module]:
        """All networks of the pipeline."""
        return [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]

    @property
    def multiple(self) -> int:
        """Divides the side of training pictures, px."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def longest(self) -> int | None:
        """The longest side that the network can take, px; None: any."""
        return None

    @property
    def resolution(self) -> int:
        """The side that the base was made for, px."""
        side: Any = self.network.config.sample_size
        return (side if isinstance(side, int) else max(side)) * int(getattr(self.pipeline, "vae_scale_factor", 1))

    def max_tokens(self) -> int:
        """Longest caption that is read."""
        return min(int(getattr(self.pipeline, t).model_max_length) for t in self.tokenizers)

    def text(self, captions: list[str]) -> Text:
        """Captions to what the denoiser reads of them."""
        raise NotImplementedError

    def rows(self, pictures: Tensor) -> Tensor:
        """Pictures to the mean and deviation of their latents: [B, 2C, h, w]."""
        vae = self.pipeline.vae
        with torch.autocast(pictures.device.type, enabled=False):  # SDXL's overflows in float16
            posterior = vae.encode(pictures.to(vae.dtype)).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    def x0(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Latents drawn from their distribution by `noise` [B, C, h, w], in the scale that is diffused."""
        mean, std = rows.float().chunk(2, dim=1)
        config = self.pipeline.vae.config
        return (mean + std * noise - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor

    def row_channels(self, channels: int) -> int:
        """Channels of x0, of a row with `channels` of them."""
        return channels // 2

    def decode(self, x0: Tensor) -> Tensor:
        """What is diffused to pictures [B, 3, H, W] in [-1, 1]."""
        vae = self.pipeline.vae
        latents = x0 / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        with torch.autocast(x0.device.type, enabled=False):
            return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float().clamp(-1, 1)

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """The network's output, of x_t's shape; `t` as the process gives it."""
        raise NotImplementedError

    def lead(self, guidance: float) -> float:
        """How many times the way from the empty caption's prediction to the caption's the pipeline goes where it is
        told `guidance`; 1: the caption's prediction alone."""
        return max(guidance, 1.0)

    def another(self) -> Any:
        """A network of the denoiser's kind and sizes, with new weights, or without where the device is "meta"."""
        return type(self.network).from_config(self.network.config)

    def save(self, folder: Path) -> None:
        """Writes the pipeline, so that `DiffusionPipeline.from_pretrained` opens it."""
        save_pipeline(self.pipeline, folder)


class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x."""

    denoiser = "unet"
    step = 64
    text_encoders = ("text_encoder",)
    trains_text = True
    attends = True

    @property
    def multiple(self) -> int:
        """See `Family`; diffusers draws no other sides."""
        return math.lcm(8, int(self.pipeline.vae_scale_factor))

    def text(self, captions: list[str]) -> Text:
        """Last hidden states of CLIP: {"states": [B, 77, C]}."""
        encoder, tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        tokens = _tokens(tokenizer, self.pipeline.maybe_convert_prompt(captions, tokenizer), encoder.device)
        mask = tokens.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
        return {"states": encoder(tokens.input_ids, attention_mask=mask)[0]}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        return network(x_t, t, encoder_hidden_states=text["states"], return_dict=False)[0]


class StableDiffusionXL(Family):
    """Stable Diffusion XL: two text encoders, and the picture's size as a condition."""

    denoiser = "unet"
    step = 64
    text_encoders = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    trains_text = True
    attends = True

    @property
    def multiple(self) -> int:
        """See `Family`; diffusers draws no other sides."""
        return math.lcm(8, int(self.pipeline.vae_scale_factor))

    def text(self, captions: list[str]) -> Text:
        """Penultimate states of both, side by side, and the second's projection; zeros for "" where the base does."""
        states = []
        pooled = None
        for name, tokenizer in zip(self.text_encoders, self.tokenizers, strict=True):
            encoder, reader = getattr(self.pipeline, name), getattr(self.pipeline, tokenizer)
            ids = _tokens(reader, self.pipeline.maybe_convert_prompt(captions, reader), encoder.device).input_ids
            output = encoder(ids, output_hidden_states=True)
            states.append(output.hidden_states[-2])
            pooled = output[0]
        assert pooled is not None
        text = {"states": torch.cat(states, dim=-1), "pooled": pooled}
        if self.pipeline.config.force_zeros_for_empty_prompt:
            said = torch.tensor([bool(c) for c in captions], device=pooled.device)
            text = {k: v * said.view(-1, *[1] * (v.ndim - 1)) for k, v in text.items()}
        return text

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`; without `sizes` in the text pictures are taken as uncropped and of their own size."""
        sizes = text.get("sizes")
        if sizes is None:
            height, width = (side * int(self.pipeline.vae_scale_factor) for side in x_t.shape[2:])
            sizes = torch.tensor([[height, width, 0, 0, height, width]] * len(x_t), device=x_t.device)
        added = {"text_embeds": text["pooled"], "time_ids": sizes.to(x_t.dtype)}
        states = text["states"]
        return network(x_t, t, encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)[0]


class StableDiffusion3(Family):
    """Stable Diffusion 3 and 3.5."""

    text_encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers = ("tokenizer", "tokenizer_2")
    targets = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

    @property
    def multiple(self) -> int:
        """See `Family`."""
        return int(self.pipeline.vae_scale_factor) * int(self.network.config.patch_size)

    @property
    def longest(self) -> int:
        """See `Family`; its places are a table."""
        return int(self.network.config.pos_embed_max_size) * self.multiple

    def text(self, captions: list[str]) -> Text:
        """The pipeline's own embeddings."""
        states, _, pooled, _ = self.pipeline.encode_prompt(
            captions, None, None, device=_device(self), do_classifier_free_guidance=False
        )
        return {"states": states, "pooled": pooled}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        given = {"encoder_hidden_states": text["states"], "pooled_projections": text["pooled"]}
        return network(hidden_states=x_t, timestep=t * 1000, **given, return_dict=False)[0]


class InPatches(Family):
    """A base whose network takes latents in patches of two by two, and whose pipeline knows its size."""

    @property
    def multiple(self) -> int:
        """See `Family`."""
        return 2 * int(self.pipeline.vae_scale_factor)

    @property
    def resolution(self) -> int:
        """See `Family`."""
        return int(self.pipeline.default_sample_size) * int(self.pipeline.vae_scale_factor)


class Flux(InPatches):
    """FLUX.1."""

    text_encoders = ("text_encoder", "text_encoder_2")
    targets = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")

    def lead(self, guidance: float) -> float:  # noqa: ARG002 - which the network itself is told
        """See `Family`."""
        return 1.0

    def max_tokens(self) -> int:
        """See `Family`."""
        return int(self.pipeline.tokenizer_2.model_max_length)

    def text(self, captions: list[str]) -> Text:
        """The pipeline's own embeddings."""
        length = min(512, self.max_tokens())
        states, pooled, _ = self.pipeline.encode_prompt(
            captions, None, device=_device(self), max_sequence_length=length
        )
        return {"states": states, "pooled": pooled}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`; a distilled guidance is that of `text`, else 1, with which diffusers' own scripts train."""
        b, c, h, w = x_t.shape
        tokens = to_patches(x_t)
        places = self.pipeline._prepare_latent_image_ids(b, h // 2, w // 2, x_t.device, x_t.dtype)
        distilled = getattr(network, "config", None) is not None and network.config.guidance_embeds  # type: ignore[union-attr]
        output = network(
            hidden_states=tokens,
            timestep=t,
            guidance=text.get("guidance", torch.ones(b, device=x_t.device)) if distilled else None,
            pooled_projections=text["pooled"],
            encoder_hidden_states=text["states"],
            txt_ids=torch.zeros(text["states"].shape[1], 3, device=x_t.device, dtype=x_t.dtype),
            img_ids=places,
            return_dict=False,
        )[0]
        return from_patches(output, c, h, w)


def to_patches(x: Tensor) -> Tensor:
    """[B, C, h, w] to two by two: [B, h w / 4, 4 C]."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def from_patches(patches: Tensor, c: int, h: int, w: int) -> Tensor:
    """`to_patches` undone."""
    b = len(patches)
    return patches.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


class Prx(Family):
    """PRX in latents."""

    text_encoders = ("text_encoder",)
    targets = ("img_qkv_proj", "txt_kv_proj", "to_out.0")

    @property
    def multiple(self) -> int:
        """See `Family`."""
        return int(self.pipeline.vae_scale_factor) * int(self.network.config.patch_size)

    @property
    def resolution(self) -> int:
        """See `Family`."""
        return int(self.pipeline.config.default_sample_size)

    def text(self, captions: list[str]) -> Text:
        """The pipeline's own embeddings."""
        states, mask, _, _ = self.pipeline.encode_prompt(captions, _device(self), do_classifier_free_guidance=False)
        return {"states": states, "mask": mask}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        return network(
            hidden_states=x_t, timestep=t, encoder_hidden_states=text["states"], attention_mask=text["mask"],
            return_dict=False,
        )[0]  # fmt: skip

    def save(self, folder: Path) -> None:
        """See `Family`. T5Gemma's encoder needs help: diffusers 0.42 writes it under its own library and without the
        configuration of the whole T5Gemma, neither of which it can open (findings/prx_encoder_saved.sh)."""
        super().save(folder)
        index = json.loads((folder / "model_index.json").read_text())
        if index["text_encoder"][1] == "T5GemmaEncoder":
            from transformers import T5GemmaConfig

            index["text_encoder"][0] = "transformers"
            (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
            own = self.pipeline.text_encoder.config
            whole = T5GemmaConfig(encoder=own, decoder=own, vocab_size=own.vocab_size)
            whole.save_pretrained(folder / "text_encoder")
            settle_config(folder / "text_encoder" / "config.json")


class PrxPixel(Prx):
    """PRX in pixels: a row is the picture."""

    def max_tokens(self) -> int:
        """See `Family`."""
        return int(self.pipeline.config.prompt_max_tokens)

    def rows(self, pictures: Tensor) -> Tensor:
        """See `Family`."""
        return pictures

    def x0(self, rows: Tensor, noise: Tensor) -> Tensor:  # noqa: ARG002 - pixels are known exactly
        """See `Family`."""
        return rows.float()

    def row_channels(self, channels: int) -> int:
        """See `Family`."""
        return channels

    def decode(self, x0: Tensor) -> Tensor:
        """See `Family`."""
        return x0.float().clamp(-1, 1)


FAMILIES: dict[str, type[Family]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "PRXPipeline": Prx,
    "PRXPixelPipeline": PrxPixel,
}


def family_of(pipeline: Any, base: str) -> Family:
    """ConfigError where the base is of no kind that is known here."""
    from daybreak.finetune.family import MORE_FAMILIES  # which are made of what stands here

    kind, known = type(pipeline).__name__, FAMILIES | MORE_FAMILIES
    if kind not in known:
        raise ConfigError(f"{base} is a {kind}; fine-tuning knows {', '.join(known)}")
    return known[kind](pipeline)


def _tokens(tokenizer: Any, captions: list[str], device: torch.device) -> Any:
    length = tokenizer.model_max_length
    tokens = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return tokens.to(device)


def _device(family: Family) -> torch.device:
    return next(next(iter(family.encoders.values())).parameters()).device
