"""Opens the models that `daybreak serve` was told to serve."""

from __future__ import annotations

import torch

from daybreak.evaluate.adapter_option import adapters_for
from daybreak.evaluate.checks import check_weights
from daybreak.serve.find import find_served
from daybreak.serve.models import ServedModel
from daybreak.serve.settings import ServeSettings


def open_served(spec: str, settings: ServeSettings, device: torch.device) -> ServedModel:
    """A model from "FOLDER" or "NAME=FOLDER". ConfigError where there is none."""
    name, folder, kind = find_served(spec)
    adapted = bool(adapters_for(settings.lora, name))
    if adapted:
        check_weights(folder)
    if kind in ("finetuned", "pipeline") or (kind == "prx" and adapted):  # adapters name its layers as diffusers does
        from daybreak.serve.pipeline import PipelineModel

        return PipelineModel(name, folder, settings, device)
    from daybreak.serve.native import NativeModel

    return NativeModel(name, folder, settings, device)
