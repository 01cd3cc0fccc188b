"""What a run leaves, in the formats of those who use it, and opening it again.

RUN/model/      full: a diffusers pipeline folder, which `DiffusionPipeline.from_pretrained` loads
RUN/lora/       pytorch_lora_weights.safetensors, as diffusers and ComfyUI name its keys; lora_kohya.safetensors, as
                A1111, Forge and kohya's scripts do (UNets only)
RUN/embedding/  learned_embeds.safetensors of textual inversion
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.finetune import settings as settings_file
from daybreak.finetune.bases import open_base
from daybreak.finetune.drawing import scheduler_for
from daybreak.finetune.families import Family, family_of
from daybreak.finetune.methods import TEXT_TARGETS, add_adapter
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.state import State

if TYPE_CHECKING:
    from daybreak.evaluate.subjects import Drawing

LORA, KOHYA, EMBEDDING = "pytorch_lora_weights.safetensors", "lora_kohya.safetensors", "learned_embeds.safetensors"
TEXT_PREFIXES = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}


def is_finetuned(folder: Path) -> bool:
    """Whether it is a run of daybreak finetune."""
    return (folder / settings_file.FILE).is_file()


def save_result(state: State, run: Path) -> Path:
    """Writes the averaged weights (the trained ones without --ema); complete or not at all. Returns the folder."""
    settings, family = state.settings, state.family
    name = "embedding" if settings.token else "lora" if settings.low_rank else "model"
    folder = run / name
    building = folder.with_suffix(".incomplete")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    if settings.token:
        _save_embedding(state, building / EMBEDDING)
    else:
        with state.averages.in_place() if settings.ema else torch.no_grad():
            if settings.low_rank:
                _save_lora(family, settings, building)
            else:
                pipeline = family.pipeline
                own = pipeline.scheduler
                if settings.zero_snr:
                    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
                    pipeline.scheduler = type(own).from_config(own.config, **zero)
                family.save(building)
                pipeline.scheduler = own
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    return folder


def _save_lora(family: Family, settings: FinetuneSettings, folder: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    pipeline = family.pipeline
    parts = {family.denoiser: family.network} | (family.encoders if settings.train_text_encoder else {})
    layers = {name: get_peft_model_state_dict(network) for name, network in parts.items()}
    # Of a transformer diffusers reads peft's own names; its older ones would lose layers (to_add_out) without a word.
    given: dict[str, Any] = {
        f"{n}_lora_layers": d if n == "transformer" else convert_state_dict_to_diffusers(d) for n, d in layers.items()
    }
    given |= {f"{n}_lora_adapter_metadata": network.peft_config["default"].to_dict() for n, network in parts.items()}
    pipeline.save_lora_weights(folder, **given)
    if family.denoiser == "unet":
        prefixes = TEXT_PREFIXES if len(family.text_encoders) > 1 else {"text_encoder": "lora_te_"}
        tensors: dict[str, Tensor] = {}
        for name, layer in layers.items():
            tensors |= to_kohya(layer, prefixes.get(name, "lora_unet_"), settings.alpha or settings.rank)
        save_file(tensors, folder / KOHYA, metadata={"ss_network_module": "networks.lora"})


def to_kohya(layers: dict[str, Tensor], prefix: str, alpha: float) -> dict[str, Tensor]:
    """peft's tensors of one network under the names of kohya's scripts, each layer with its alpha."""
    kinds = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight", "lora_magnitude_vector": "dora_scale"}
    result = {}
    for key, tensor in layers.items():
        path = key.removesuffix(".weight")
        layer, _, kind = path.rpartition(".")
        name = prefix + layer.replace(".", "_")
        column = kind == "lora_magnitude_vector" and tensor.ndim == 1  # one scale an output, beside [out, in]
        result[f"{name}.{kinds[kind]}"] = (tensor[:, None] if column else tensor).detach().float().contiguous()
        result[f"{name}.alpha"] = torch.tensor(float(alpha))
    return result


def _save_embedding(state: State, path: Path) -> None:
    """{word: [vectors, C]} as `load_textual_inversion` reads it; of two encoders {"clip_l": ..., "clip_g": ...}."""
    source = state.averages.tensors if state.settings.ema else state.trained.parameters
    rows = [t.detach().float().cpu().contiguous() for t in source.values()]
    word = state.settings.token
    assert word is not None
    save_file({word: rows[0]} if len(rows) == 1 else {"clip_l": rows[0], "clip_g": rows[1]}, path)


def open_result(run: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The pipeline of a finished run: base and result together. ConfigError where it has none yet, or it is damaged."""
    settings = settings_file.load(run)
    if (run / "model" / "model_index.json").is_file():
        return open_base(str(run / "model"), dtype=dtype)
    lora, embedding = run / "lora" / LORA, run / "embedding" / EMBEDDING
    if not lora.is_file() and not embedding.is_file():
        raise ConfigError(f"{run} has no result yet; go on with daybreak finetune --resume {run}")
    pipeline = open_base(settings.base, settings.allow_pickle, settings.base_config, dtype)
    if settings.zero_snr:
        pipeline.scheduler = scheduler_for(pipeline, "ddim", zero_snr=True)
    try:
        if lora.is_file():
            require("peft", "finetune", f"opening {lora}")
            _load_lora(pipeline, run / "lora", settings)
        else:
            _load_embedding(pipeline, embedding, settings)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        raise ConfigError(f"{run}: its result cannot be loaded: {' '.join(str(e).split())[:300]}") from None
    return pipeline


def _load_lora(pipeline: Any, folder: Path, settings: FinetuneSettings) -> None:
    """As diffusers loads it, but for text encoders: on its way through transformers DoRA's magnitudes are lost."""
    if not settings.train_text_encoder:
        pipeline.load_lora_weights(folder, weight_name=LORA)
        return
    from diffusers.utils import convert_state_dict_to_peft
    from peft import set_peft_model_state_dict

    layers, alphas, metadata = pipeline.lora_state_dict(folder, weight_name=LORA, return_lora_metadata=True)
    pipeline.load_lora_into_unet(layers, alphas, pipeline.unet, metadata=metadata, _pipeline=pipeline)
    for name, encoder in family_of(pipeline, settings.base).encoders.items():
        own = {k.removeprefix(f"{name}."): t for k, t in layers.items() if k.startswith(f"{name}.")}
        add_adapter(encoder, list(TEXT_TARGETS), settings)
        outcome: Any = set_peft_model_state_dict(encoder, convert_state_dict_to_peft(own))
        if outcome.unexpected_keys or any("lora_" in key for key in outcome.missing_keys):
            raise ValueError(f"the layers of {LORA} are not those of the base's {name}")
        encoder.eval().requires_grad_(False).to(encoder.dtype)


def _load_embedding(pipeline: Any, path: Path, settings: FinetuneSettings) -> None:
    tensors = load_file(path)
    if settings.token in tensors:
        pipeline.load_textual_inversion(tensors, token=settings.token)
        return
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        parts = {n: getattr(pipeline, f"{n}{number}") for n in ("text_encoder", "tokenizer")}
        pipeline.load_textual_inversion({settings.token: tensors[key]}, token=settings.token, **parts)


def open_pipeline(place: str, dtype: torch.dtype = torch.float32) -> Any:
    """A run of daybreak finetune, or a diffusers pipeline (folder or hub id), as a pipeline. ConfigError otherwise."""
    folder = Path(place).expanduser()
    if not is_finetuned(folder):
        return open_base(place, dtype=dtype)
    pipeline = open_result(folder, dtype)
    told = settings_file.load(folder)
    pipeline.scheduler = scheduler_for(pipeline, told.sampler, told.zero_snr)
    return pipeline


def merge(pipeline: Any) -> None:
    """Makes LoRA layers part of the weights, so that the pipeline saves as a plain one."""
    if hasattr(pipeline, "get_list_adapters") and pipeline.get_list_adapters():
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()


def drawing_of(place: str, drawing: Drawing) -> Drawing:
    """`drawing` with what it leaves open as a run of daybreak finetune was told; of a plain pipeline, as it is."""
    folder = Path(place).expanduser()
    if not is_finetuned(folder):
        return drawing
    told = settings_file.load(folder)
    own: dict[str, Any] = {"steps": told.sample_steps, "guidance": told.guidance, "size": told.resolution}
    return replace(drawing, **{k: v for k, v in own.items() if getattr(drawing, k) is None})
