"""What a run leaves, in the formats of those who use it, and opening it again.

RUN/model/      full: a diffusers pipeline folder, which `DiffusionPipeline.from_pretrained` loads
RUN/lora/       files of the same adapters, for different readers (adapter_files.py)
RUN/embedding/  learned_embeds.safetensors of textual inversion
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import AdapterFile
from daybreak.files import whole_folder
from daybreak.finetune import adapter_files, adapters
from daybreak.finetune import settings as settings_file
from daybreak.finetune.bases import base_of, open_base
from daybreak.finetune.drawing import own_guidance, own_steps, scheduler_for
from daybreak.finetune.families import Family, family_of
from daybreak.finetune.loras import Tell, add_to_pipeline
from daybreak.finetune.prepared import Prepared
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import kind_of, own_adapted

if TYPE_CHECKING:
    from daybreak.evaluate.request import Drawing

EMBEDDING = "learned_embeds.safetensors"


def save_result(base: Prepared, run: Path) -> Path:
    """Writes the averaged weights (the trained ones without --ema); complete or not at all. Returns the folder."""
    settings, family = base.settings, base.family
    name = "embedding" if settings.token else "lora" if settings.low_rank else "model"
    folder = run / name
    with whole_folder(folder) as building:
        if settings.token:
            _save_embedding(base, building / EMBEDDING)
        else:
            with base.averages.in_place() if settings.ema else torch.no_grad():
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
    return folder


def _save_lora(family: Family, settings: FinetuneSettings, folder: Path) -> None:
    parts = {family.denoiser: family.network} | (family.encoders if settings.train_text_encoder else {})
    adapter_files.write(folder, parts)
    adapter_files.check(folder, family.pipeline, parts)


def _save_embedding(base: Prepared, path: Path) -> None:
    """{word: [vectors, C]} as `load_textual_inversion` reads it; of two encoders {"clip_l": ..., "clip_g": ...}."""
    source = base.averages.tensors if base.settings.ema else base.trained.parameters
    rows = [t.detach().float().cpu().contiguous() for t in source.values()]
    word = base.settings.token
    assert word is not None
    save_file({word: rows[0]} if len(rows) == 1 else {"clip_l": rows[0], "clip_g": rows[1]}, path)


def open_result(run: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The pipeline of a finished run: base and result together. ConfigError where it has none yet, or it is damaged."""
    settings = settings_file.load(run)
    if (run / "model" / "model_index.json").is_file():
        return open_base(str(run / "model"), dtype=dtype)
    lora, embedding = adapter_files.result_file(run / "lora"), run / "embedding" / EMBEDDING
    if not lora.is_file() and not embedding.is_file():
        raise ConfigError(f"{run} has no result yet; go on with daybreak finetune --resume {run}")
    pipeline = base_of(settings, dtype)
    if settings.zero_snr:
        pipeline.scheduler = scheduler_for(pipeline, "ddim", zero_snr=True)
    try:
        if lora.is_file():
            _put_lora(family_of(pipeline, settings.base), lora)
        else:
            _load_embedding(pipeline, embedding, settings)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        raise ConfigError(f"{run}: its result cannot be loaded: {' '.join(str(e).split())[:300]}") from None
    return pipeline


def _put_lora(family: Family, path: Path) -> None:
    """Has the base's networks carry the adapters of a file, all of them or none."""
    parts = {family.denoiser: family.network} | family.encoders
    for part, layers in adapter_files.read_own(path, parts).items():
        adapters.put(parts[part], layers, str(path))


def _load_embedding(pipeline: Any, path: Path, settings: FinetuneSettings) -> None:
    tensors = load_file(path)
    if settings.token in tensors:
        pipeline.load_textual_inversion(tensors, token=settings.token)
        return
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        parts = {n: getattr(pipeline, f"{n}{number}") for n in ("text_encoder", "tokenizer")}
        pipeline.load_textual_inversion({settings.token: tensors[key]}, token=settings.token, **parts)


def open_pipeline(
    place: str, dtype: torch.dtype = torch.float32, loras: Sequence[AdapterFile] = (), tell: Tell = print
) -> Any:
    """A run of daybreak finetune, or a diffusers pipeline (folder or hub id), as a pipeline. ConfigError otherwise.

    loras: made part of its weights; tell: is told what of them is not loaded.
    """
    folder = Path(place).expanduser()
    if kind_of(folder) != "finetuned":
        pipeline = open_base(place, dtype=dtype)
    else:
        pipeline = open_result(folder, dtype)
        told = settings_file.load(folder)
        pipeline.scheduler = scheduler_for(pipeline, told.sampler, told.zero_snr)
    if loras:
        add_to_pipeline(pipeline, loras, tell)
    return pipeline


def merge(pipeline: Any) -> None:
    """Makes LoRA layers part of the weights, so that the pipeline saves as a plain one."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            adapters.merge(part)


def drawing_of(place: str, drawing: Drawing) -> Drawing:
    """`drawing` with what it leaves open as a run of daybreak finetune was told; of a plain pipeline, as it is."""
    folder = Path(place).expanduser()
    if kind_of(folder) != "finetuned":
        return drawing
    told = settings_file.load(folder)
    own: dict[str, Any] = {"steps": told.sample_steps, "guidance": told.guidance, "size": told.resolution}
    if own_adapted(told.base):
        own |= {"steps": own_steps(told), "guidance": own_guidance(told)}
    return replace(drawing, **{k: v for k, v in own.items() if getattr(drawing, k) is None})
