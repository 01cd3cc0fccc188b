"""Which models `daybreak serve` was told to serve. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.model_folder import Kind, check_kind, model_folder
from daybreak.run_folder import trained_config


def find_served(spec: str) -> tuple[str, Path, Kind]:
    """("NAME", FOLDER, its kind) of "FOLDER" or "NAME=FOLDER". ConfigError where there is no model."""
    name, equals, path = spec.partition("=")
    folder = model_folder(path if equals else spec)
    name = name if equals else folder.resolve().name
    if not name or len(name) > 100 or not name.isprintable():
        raise ConfigError(f"{spec}: a model's name has 1 to 100 printable characters")
    kind = check_kind(folder)
    if kind == "run":
        trained_config(folder)
    return name, folder, kind


def check_names(names: Iterable[str]) -> None:
    """ConfigError where two models have one name."""
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two models are named {name}; name one of them with NAME=FOLDER")
