"""Opens the models that `daybreak serve` was told to serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from daybreak.evaluate.adapter_option import AdapterFile, adapters_for
from daybreak.evaluate.checks import check_weights
from daybreak.model_folder import Kind
from daybreak.serve.about import about_model
from daybreak.serve.find import find_served
from daybreak.serve.models import ServedModel
from daybreak.serve.settings import ServeSettings


def open_served(
    spec: str, settings: ServeSettings, device: torch.device, loras: Mapping[str, AdapterFile] = MappingProxyType({})
) -> ServedModel:
    """A model from "FOLDER" or "NAME=FOLDER"; ConfigError where there is none.

    loras: adapters that orders may ask for, by name; the model's `unfit` says which it can't draw with.
    """
    name, folder, kind = find_served(spec)
    always = bool(adapters_for(settings.lora, name))
    if always:
        check_weights(folder)
    model = _opened(name, folder, kind, settings, device, adapted=always or bool(loras))
    model.about = about_model(folder, kind)
    if kind == "quantized":
        model.unfit = dict.fromkeys(loras, f"{folder} holds 8-bit weights, which an adapter cannot become part of")
    elif loras:
        model.offer(loras)
    return model


def _opened(
    name: str, folder: Path, kind: Kind, settings: ServeSettings, device: torch.device, adapted: bool
) -> ServedModel:
    if kind in ("finetuned", "pipeline") or (kind == "prx" and adapted):  # adapters name its layers as diffusers does
        from daybreak.serve.pipeline import PipelineModel

        return PipelineModel(name, folder, settings, device)
    from daybreak.serve.native import NativeModel

    return NativeModel(name, folder, settings, device)
