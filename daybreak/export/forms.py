"""In which form a model lies in a folder. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.finetune.settings import is_finetuned

CONFIG_FILE = "daybreak.yaml"
"""The run's config in a folder that daybreak wrote."""
QUANTIZED_FILE = "quantized.json"
WEIGHTS_FILE = "transformer.safetensors"
PIPELINE, TRANSFORMER = "DaybreakPipeline", "DaybreakTransformer"
PIPELINE_FILE, TRANSFORMER_FILE = "daybreak_pipeline", "daybreak_transformer"
"""Of a folder that brings its code (own_folder.py): its classes, and the files they are in."""
Format = Literal["diffusers", "safetensors"]
Form = Literal["run", "safetensors", "quantized", "prx", "own", "pipeline"]


def form_of(folder: Path) -> Form:
    """Which form a model folder has.

    A run, `export --to safetensors`, `shrink`, PRXPixelPipeline, `export` of what is no PRX, another pipeline.

    A run of daybreak finetune is a pipeline.

    Raises ConfigError where it is none of them.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if (folder / "config.yaml").is_file():
        return "run"
    if is_finetuned(folder):
        return "pipeline"
    if (folder / QUANTIZED_FILE).is_file():
        return "quantized"
    if (folder / WEIGHTS_FILE).is_file():
        return "safetensors"
    if (folder / "model_index.json").is_file():
        index = read_json(folder / "model_index.json")
        if is_own_index(index):
            return "own"
        return "prx" if index.get("_class_name") == "PRXPixelPipeline" else "pipeline"
    raise ConfigError(
        f"{folder} is no model: it holds neither config.yaml (a run), nor {WEIGHTS_FILE}, "
        "nor model_index.json (diffusers)"
    )


def is_pipeline(folder: Path) -> bool:
    """Whether diffusers draws with it: a pipeline's folder, or a run of daybreak finetune."""
    known = any((folder / name).is_file() for name in ("finetune.yaml", "model_index.json"))
    return known and form_of(folder) == "pipeline"


def is_own(base: str) -> bool:
    """Whether a base is a run of daybreak train, or what daybreak export made of one."""
    folder = Path(base).expanduser()
    known = any((folder / n).is_file() for n in ("config.yaml", CONFIG_FILE, WEIGHTS_FILE))
    return known and form_of(folder) in ("run", "prx", "own", "safetensors")


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
