"""Adapter files on a model that draws: made part of its weights, each at its strength, every tensor accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from daybreak.config import ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.adapter_option import AdapterFile
from daybreak.finetune.adapter_reading import Found, Parts, read
from daybreak.finetune.adapters import fold
from daybreak.finetune.layer_names import DENOISERS
from daybreak.model.transformer import Transformer

Tell = Callable[[str], None]
"""Where it is said what of a file is not loaded."""


def add_to_pipeline(pipeline: Any, files: Sequence[AdapterFile], tell: Tell) -> None:
    """Of a diffusers pipeline: its denoiser and its text encoders."""
    add(parts_of_pipeline(pipeline), files, tell)


def add_to_own(transformer: Transformer, text_encoder: TextEncoder, files: Sequence[AdapterFile], tell: Tell) -> None:
    """Of a model of ours, whose adapters daybreak finetune has trained on it as a pipeline."""
    add(parts_of_own(transformer, text_encoder), files, tell)


def parts_of_pipeline(pipeline: Any) -> Parts:
    """The networks of a diffusers pipeline that adapters can be for."""
    names = (*DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")
    parts = {name: getattr(pipeline, name, None) for name in names}
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def parts_of_own(transformer: Transformer, text_encoder: TextEncoder) -> Parts:
    """The networks of a model of ours that adapters can be for, named as in a pipeline."""
    parts: Parts = {"transformer": nn.ModuleDict({"network": transformer})}
    if not text_encoder.frozen:
        parts["text_encoder"] = text_encoder.network
    return parts


def add(parts: Parts, files: Sequence[AdapterFile], tell: Tell) -> None:
    """Makes the files' adapters part of the weights; tells which tensors of them are not.

    ConfigError for a file of another base, and for one that is damaged.
    """
    for file, found in [(file, read_fitting(file, parts, tell)) for file in files]:
        for part, adapters in found.adapters.items():
            fold(parts[part], adapters, file.strength, str(file.path))


def read_fitting(file: AdapterFile, parts: Parts, tell: Tell) -> Found:
    """The adapters of a file for these networks; tells which of its tensors are not used. ConfigError as `add`."""
    found = read(file.path, parts)
    check_fits(str(file.path), found)
    for reason, names in left_by_reason(found).items():
        tell(f"note: {file.path}: not loaded, since it {reason}: {', '.join(names)}")
    return found


def check_fits(source: str, found: Found) -> None:
    """ConfigError where nothing of a file is for the denoiser, though it holds something else."""
    if not any(found.adapters.get(part) for part in DENOISERS) and (found.left or not found.adapters):
        key, reason = next(iter(found.left.items()), ("its header", "is all there is"))
        raise ConfigError(f"{source} is for another base: of {len(found.left)} tensors {key} {reason}")


def left_by_reason(found: Found) -> dict[str, list[str]]:
    """The layers of tensors that are not used, or the tensors where they are of no layer, by the reason."""
    result: dict[str, list[str]] = {}
    for key, reason in found.left.items():
        name = re.sub(r"([._]lora)?[._]\w+(\.weight)?$", "", key) if "no layer" in reason else key
        names = result.setdefault(reason, [])
        if name not in names:
            names.append(name)
    return result
