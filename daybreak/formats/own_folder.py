"""A trained model that is no PRX as a folder that diffusers loads together with the code in it, and back.

    DIR/model_index.json      DaybreakPipeline and the run's settings of sampling
    DIR/daybreak_pipeline.py  own_pipeline.py with what it needs of this package (bundle.py)
    DIR/transformer/          weights, config.json, and daybreak_transformer.py: own_transformer.py likewise
    DIR/text_encoder/ tokenizer/  as transformers saves them
    DIR/daybreak.yaml         the run's config, for `daybreak import`

`DiffusionPipeline.from_pretrained(DIR, trust_remote_code=True)` needs no daybreak; neither writing nor reading needs
diffusers, and reading runs none of the folder's code.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.formats.bundle import bundle
from daybreak.formats.diffusers_folder import read_text_encoder
from daybreak.formats.text_parts import save_text
from daybreak.formats.weights import load_weights, read_shards
from daybreak.model.transformer import Transformer
from daybreak.model_folder import (
    CONFIG_FILE,
    PIPELINE,
    PIPELINE_FILE,
    TRANSFORMER,
    TRANSFORMER_FILE,
    check_without_data,
)

DIFFUSERS = "0.42.0"
"""The version of diffusers that the folder is written for."""
PREFIX = "network."
"""`DaybreakTransformer` holds ours under this name."""


def write_own(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, folder: Path, dtype: torch.dtype
) -> None:
    """Writes the pipeline into `folder`, its weights as `dtype`."""
    (folder / "transformer").mkdir(parents=True)
    configs.save(config, folder / CONFIG_FILE)
    code = bundle("daybreak.formats.own_pipeline", PIPELINE, "A pipeline that generates pictures in pixels from text.")
    (folder / f"{PIPELINE_FILE}.py").write_text(code, encoding="utf-8")
    code = bundle("daybreak.formats.own_transformer", TRANSFORMER, "The transformer of the pipeline.")
    (folder / "transformer" / f"{TRANSFORMER_FILE}.py").write_text(code, encoding="utf-8")
    network = {
        "_class_name": TRANSFORMER,
        "_diffusers_version": DIFFUSERS,
        "text_width": text_encoder.width,
        "model": asdict(transformer.config),
        "routing": asdict(transformer.routing),
    }
    _write_json(folder / "transformer" / "config.json", network)
    tensors = {PREFIX + k: v.to("cpu", dtype).contiguous() for k, v in transformer.state_dict().items()}
    save_file(tensors, folder / "transformer" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    index = {
        "_class_name": [PIPELINE_FILE, PIPELINE],
        "_diffusers_version": DIFFUSERS,
        "transformer": [TRANSFORMER_FILE, TRANSFORMER],
        **save_text(text_encoder, folder, dtype),
        **pipeline_settings(config, text_encoder),
    }
    _write_json(folder / "model_index.json", index)


def own_differences(config: Config) -> list[str]:
    """What keeps the pipeline, at the run's own settings, from generating our very picture: a phrase each."""
    if config.sample.guidance_kind == "classifier_free":
        return []
    return [f"the run's guidance is {config.sample.guidance_kind}, the pipeline's classifier-free"]


def read_own(folder: Path) -> tuple[Transformer, TextEncoder, Config]:
    """The networks that `write_own` wrote, in float32. Raises ConfigError for missing or damaged files."""
    config = configs.load(folder / CONFIG_FILE)
    text_encoder = read_text_encoder(folder, config.text.max_tokens, frozen=config.text.pretrained is not None)
    if text_encoder.frozen:  # it lies in the folder
        config = configs.override(config, "text.pretrained", str(folder.resolve()))
        config = configs.override(config, "text.revision", "none")
    transformer = Transformer(check_without_data(config).model, text_encoder.width, config.routing)
    path = folder / "transformer"
    tensors = {k.removeprefix(PREFIX): v.float() for k, v in read_shards(path).items()}
    load_weights(transformer, tensors, path)
    return transformer.eval(), text_encoder.eval(), config


def pipeline_settings(config: Config, text_encoder: TextEncoder) -> dict[str, Any]:
    """The arguments of `DaybreakPipeline` beside its parts."""
    s, d = config.sample, config.diffusion
    return {
        "default_sample_size": config.data.resolution,
        "prompt_max_tokens": text_encoder.max_tokens,
        "noise_scale": d.noise_scale,
        "shift": d.shift,
        "sampler": s.sampler,
        "steps": s.steps,
        "guidance": s.guidance,
        "guidance_from": s.guidance_from,
        "guidance_to": s.guidance_to,
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
