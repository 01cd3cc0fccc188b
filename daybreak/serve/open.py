"""Opens the models that `daybreak serve` was told to serve."""

from __future__ import annotations

from pathlib import Path

import torch

from daybreak.evaluate.adapter_option import adapters_for
from daybreak.evaluate.checks import check_weights
from daybreak.model_folder import Kind
from daybreak.serve.about import about_model
from daybreak.serve.find import find_served
from daybreak.serve.models import ServedModel
from daybreak.serve.settings import ServeSettings


def open_served(spec: str, settings: ServeSettings, device: torch.device) -> ServedModel:
    """A model from "FOLDER" or "NAME=FOLDER". ConfigError where there is none."""
    name, folder, kind = find_served(spec)
    model = _opened(name, folder, kind, settings, device)
    model.about = about_model(folder, kind)
    return model


def _opened(name: str, folder: Path, kind: Kind, settings: ServeSettings, device: torch.device) -> ServedModel:
    adapted = bool(adapters_for(settings.lora, name))
    if adapted:
        check_weights(folder)
    if kind in ("finetuned", "pipeline") or (kind == "prx" and adapted):  # adapters name its layers as diffusers does
        from daybreak.serve.pipeline import PipelineModel

        return PipelineModel(name, folder, settings, device)
    from daybreak.serve.native import NativeModel

    return NativeModel(name, folder, settings, device)
