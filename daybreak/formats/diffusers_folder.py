"""A trained model that is a PRX as a folder that plain diffusers loads, and back.

    DIR/model_index.json      PRXPixelPipeline, its noise scale, default size and text length
    DIR/transformer/          PRXTransformer2DModel
    DIR/text_encoder/ tokenizer/  as transformers saves them
    DIR/scheduler/            FlowMatchEulerDiscreteScheduler
    DIR/daybreak.yaml         the run's config, for `daybreak import`

Reading needs no diffusers: the folders that `PRXPixelPipeline.save_pretrained` writes are JSON and safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daybreak import config as configs
from daybreak.config import Config, ConfigError, ModelConfig, TextConfig
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextEncoder
from daybreak.extras import require
from daybreak.formats.pipeline_folder import save_pipeline
from daybreak.formats.prx_keys import from_prx, prx_config, to_prx
from daybreak.formats.text_parts import to_transformers
from daybreak.formats.weights import load_weights, read_shards
from daybreak.model.transformer import Transformer
from daybreak.model_folder import CONFIG_FILE, check_without_data, read_json

PIPELINE_FLOOR = 0.05
"""Least divisor in PRXPixelPipeline's x0 -> velocity; our samplers go lower."""


def write_diffusers(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, folder: Path, dtype: torch.dtype
) -> None:
    """Writes the pipeline of a model that `is_prx` into `folder`, its weights as `dtype`.

    Raises ConfigError where diffusers is missing.
    """
    diffusers = require("diffusers", "export", "export to diffusers")
    require("ftfy", "export", "export to diffusers")
    text_network, tokenizer = to_transformers(text_encoder, dtype)
    network = diffusers.PRXTransformer2DModel(**prx_config(transformer.config, text_encoder.width))
    network.load_state_dict(to_prx(_on_cpu(transformer.state_dict()), transformer.config.heads))
    pipeline = diffusers.PRXPixelPipeline(
        transformer=network.to(dtype),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**scheduler_arguments(config)),
        text_encoder=text_network,
        tokenizer=tokenizer,
        default_sample_size=config.data.resolution,
        prompt_max_tokens=text_encoder.max_tokens,
        noise_scale=config.diffusion.noise_scale,
    )
    save_pipeline(pipeline, folder)
    configs.save(config, folder / CONFIG_FILE)


def scheduler_arguments(config: Config) -> dict[str, Any]:
    """The FlowMatchEulerDiscreteScheduler that visits the times of `sampling_times` at the run's number of steps.

    The scheduler shifts twice (findings/flow_shift_twice.sh): its last time before the shift is itself
    shift_time(1 / n), n its training timesteps, where ours is 1 / N at N steps. n = s (N - 1) + 1 makes the two equal.
    With another number of steps the scheduler still ends at that time; the pictures are as good but not the same to
    the last digit.
    """
    shift, steps = config.diffusion.shift, config.sample.steps
    return {"num_train_timesteps": max(2, round(shift * (steps - 1)) + 1), "shift": shift}


def differences(config: Config) -> list[str]:
    """What keeps the pipeline, at the run's own settings, from generating our very picture: a phrase each."""
    s, shift = config.sample, config.diffusion.shift
    found = []
    if s.sampler != "euler":
        found.append(f"the run samples with {s.sampler}, the pipeline with Euler")
    if s.guidance != 1 and (s.guidance_from, s.guidance_to) != (0.0, 1.0):
        found.append(f"the run guides only for t in {s.guidance_from:g}..{s.guidance_to:g}, the pipeline throughout")
    if s.guidance < 1:
        found.append(f"the run's guidance is {s.guidance:g}; the pipeline guides only above 1")
    if not (shift * (s.steps - 1)).is_integer() or s.steps < 2:
        found.append(f"the scheduler's times are within one percent of ours at {s.steps} steps and shift {shift:g}")
    if float(sampling_times(s.steps, shift)[-2]) < PIPELINE_FLOOR:
        found.append(f"at {s.steps} steps the last time is below the pipeline's floor of {PIPELINE_FLOOR}")
    return found


def read_diffusers(folder: Path) -> tuple[Transformer, TextEncoder, Config]:
    """The networks of a PRXPixelPipeline folder in float32, and a config to train on with.

    A T5EncoderModel is trained with the model, unless the exported run had it frozen; any other encoder is frozen, and
    stays in `folder`. Raises ConfigError that names the file for anything else: another pipeline, a model of latents,
    an unknown text encoder, missing or damaged files.
    """
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") != "PRXPixelPipeline":
        raise ConfigError(f"{folder} holds a {index.get('_class_name')}; only a PRXPixelPipeline has our transformer")
    network = read_json(folder / "transformer" / "config.json")
    model = _model_config(network, folder / "transformer" / "config.json")
    frozen = (index.get("text_encoder") or [None, None])[1] != "T5EncoderModel"
    if (folder / CONFIG_FILE).is_file():
        frozen = configs.load(folder / CONFIG_FILE).text.pretrained is not None
    text_encoder = read_text_encoder(folder, int(index.get("prompt_max_tokens", 256)), frozen)
    transformer = Transformer(model, text_encoder.width)
    if network["context_in_dim"] != text_encoder.width:
        raise ConfigError(
            f"{folder}: the transformer reads text {network['context_in_dim']} wide, "
            f"its text encoder gives {text_encoder.width}"
        )
    path = folder / "transformer"
    try:
        tensors = from_prx({k: v.float() for k, v in read_shards(path).items()}, model.heads)
    except KeyError as e:
        raise ConfigError(f"{path} does not fit its config.json: {e.args[0]}") from None
    load_weights(transformer, tensors, path)
    return transformer.eval(), text_encoder.eval(), _config(folder, index, model, text_encoder)


def read_text_encoder(folder: Path, max_tokens: int, frozen: bool) -> TextEncoder:
    """The text encoder of a pipeline's folder, in float32."""
    if frozen:
        from daybreak.encoders.pretrained_text import PretrainedTextEncoder

        encoder = PretrainedTextEncoder.open(TextConfig(pretrained=str(folder), max_tokens=max_tokens))
        encoder.network.float()
        return encoder
    text_encoder = TextEncoder.load(folder)
    text_encoder.max_tokens = max_tokens
    text_encoder.network.float()
    return text_encoder


def _model_config(network: dict[str, Any], path: Path) -> ModelConfig:
    try:
        if network["in_channels"] != 3:
            raise ConfigError(
                f"{path}: in_channels is {network['in_channels']}; daybreak's transformer generates pixels (3 channels)"
            )
        head = network["hidden_size"] // network["num_heads"]
        if list(network["axes_dim"]) != [head // 2, head // 2]:
            raise ConfigError(
                f"{path}: axes_dim is {network['axes_dim']}; daybreak halves each head of {head} channels"
            )
        return ModelConfig(
            width=network["hidden_size"],
            depth=network["depth"],
            heads=network["num_heads"],
            mlp_ratio=float(network["mlp_ratio"]),
            patch=network["patch_size"],
            bottleneck=network.get("bottleneck_size"),
            rope_theta=float(network["theta"]),
            size_conditioning=bool(network.get("resolution_embeds", False)),
        )
    except KeyError as e:
        raise ConfigError(f"{path} does not state {e.args[0]}") from None


def _config(folder: Path, index: dict[str, Any], model: ModelConfig, text_encoder: TextEncoder) -> Config:
    """The exported run's own config, or one put together from what the folder says."""
    frozen = {"text.pretrained": str(folder.resolve()), "text.revision": None} if text_encoder.frozen else {}
    if (folder / CONFIG_FILE).is_file():
        return check_without_data(configs.override_all(configs.load(folder / CONFIG_FILE), frozen.items()))
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    config = Config(recipe="imported", model=model)
    settings = frozen | {
        "data.source": "folder",
        "data.resolution": index.get("default_sample_size") or 1024,
        "diffusion.shift": scheduler.get("shift", 1.0),
        "diffusion.noise_scale": index.get("noise_scale", 2.0),
        "text.max_tokens": text_encoder.max_tokens,
        "train.minutes": 10.0,
        "sample.steps": 28,  # what PRXPixelPipeline samples with unless told otherwise
        "sample.guidance": 4.0,
    }
    if not text_encoder.frozen:
        text = text_encoder.network.config
        settings |= {
            "text.vocabulary": text.vocab_size,
            "text.width": text.d_model,
            "text.depth": text.num_layers,
            "text.heads": text.num_heads,
        }
    return check_without_data(configs.override_all(config, settings.items()))


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.cpu() for k, v in state.items()}
