"""What kind of model a folder holds, and the names of the models in the box. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from daybreak import config as configs
from daybreak.config import Config, ConfigError

BOX = Path(__file__).parent / "box"
IN_THE_BOX = ("scenes",)
"""Models that come with daybreak, by name."""
CONFIG_FILE = "daybreak.yaml"
"""The run's config in a folder that daybreak wrote."""
FINETUNED_FILE = "finetune.yaml"
"""The settings of a run of daybreak finetune."""
QUANTIZED_FILE = "quantized.json"
WEIGHTS_FILE = "transformer.safetensors"
PIPELINE, TRANSFORMER = "DaybreakPipeline", "DaybreakTransformer"
PIPELINE_FILE, TRANSFORMER_FILE = "daybreak_pipeline", "daybreak_transformer"
"""Of a folder that brings its code (own_folder.py): its classes, and the files they are in."""
Format = Literal["diffusers", "safetensors", "single-file"]
Kind = Literal["run", "finetuned", "quantized", "safetensors", "own", "prx", "pipeline"]
"""A run of daybreak train or of daybreak finetune; what `shrink` or `export --to safetensors` wrote; an export that
brings its code, or is a PRXPixelPipeline; any other pipeline of diffusers."""


def model_folder(text: str) -> Path:
    """The folder that `text` names; the box's where it is one of IN_THE_BOX and no folder here has that name."""
    path = Path(text)
    return BOX / text if text in IN_THE_BOX and not path.exists() else path


def kind_of(folder: Path) -> Kind | None:
    """What a folder holds, told by its files; None where it is no model, or no folder.

    Raises ConfigError for a model_index.json that cannot be read.
    """
    if (folder / "config.yaml").is_file():
        return "run"
    if (folder / FINETUNED_FILE).is_file():
        return "finetuned"
    if (folder / QUANTIZED_FILE).is_file():
        return "quantized"
    if (folder / WEIGHTS_FILE).is_file():
        return "safetensors"
    if (folder / "model_index.json").is_file():
        index = read_json(folder / "model_index.json")
        if is_own_index(index):
            return "own"
        return "prx" if index.get("_class_name") == "PRXPixelPipeline" else "pipeline"
    return None


def check_kind(folder: Path) -> Kind:
    """As `kind_of`. Raises ConfigError where the folder is no model."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    kind = kind_of(folder)
    if kind is None:
        raise ConfigError(
            f"{folder} is no model: it holds neither config.yaml (a run), nor {WEIGHTS_FILE}, "
            "nor model_index.json (diffusers)"
        )
    return kind


def is_pipeline(folder: Path) -> bool:
    """Whether diffusers draws with it: a pipeline's folder, or a run of daybreak finetune."""
    return kind_of(folder) in ("finetuned", "pipeline")


def is_own(base: str) -> bool:
    """Whether a base is a run of daybreak train, or what daybreak export made of one."""
    folder = Path(base).expanduser()
    kind = kind_of(folder)
    return kind in ("run", "safetensors", "own") or (kind == "prx" and (folder / CONFIG_FILE).is_file())


def own_adapted(base: str) -> bool:
    """Whether adapters of a base are of our transformer's layers; those of an export as PRX are of diffusers'."""
    return is_own(base) and kind_of(Path(base).expanduser()) != "prx"


def is_own_index(index: dict[str, Any]) -> bool:
    """Whether a model_index.json is of a folder that `write_own` wrote."""
    return index.get("_class_name") == [PIPELINE_FILE, PIPELINE]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ConfigError where there is none."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is not readable as JSON: {e}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} should hold a JSON object, not a {type(value).__name__}")
    return value


def check_without_data(config: Config) -> Config:
    """`configs.check` for a model that travelled: where its pictures are is not asked."""
    configs.check(replace(config, data=replace(config.data, folder=config.data.folder or ".")))
    return config
