"""What `--lora` names: an adapter file, how strongly it is meant, and for which model. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.files import check_safetensors

IN_FOLDER = (
    "pytorch_lora_weights.safetensors", "lora_kohya.safetensors", "adapter_model.safetensors",
    "lora/pytorch_lora_weights.safetensors", "lora/lora_kohya.safetensors",
)  # fmt: skip
"""Of a folder, the file that is meant: diffusers' or ours, peft's, or that of a run of daybreak finetune."""


MAX_NAME = 100
"""Characters of the name under which a request asks for an adapter."""


@dataclass(frozen=True)
class AdapterFile:
    """strength: 0 is the base, 1 what was trained, below 0 its opposite. model: the one that it is for; None: any.

    A server takes a `model` that it does not serve as the adapter's own name.
    """

    path: Path
    strength: float = 1.0
    model: str | None = None

    def __str__(self) -> str:
        return f"{self.path}" if self.strength == 1 else f"{self.path} at {self.strength:g}"


def parse_adapter(text: str, flag: str = "--lora") -> AdapterFile:
    """ "[NAME=]FILE[:STRENGTH]", a folder in place of FILE where it holds one. ConfigError for what is none."""
    model, equals, rest = (None, "", text) if _there(text) else text.partition("=")
    if not equals:
        model, rest = None, text
    place, colon, number = (rest, "", "") if _there(rest) else rest.rpartition(":")
    if not colon:
        place = rest
    strength = 1.0
    if colon:
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if not math.isfinite(strength):
            raise ConfigError(f"{flag} {text}: {number!r} is no strength; write FILE:0.8")
    return AdapterFile(find_adapter(place, flag), strength, model)


def find_adapter(place: str, flag: str = "--lora") -> Path:
    """The file itself. ConfigError where there is none, or not all of it."""
    path = Path(place).expanduser()
    if path.is_dir():
        found = next((path / name for name in IN_FOLDER if (path / name).is_file()), None)
        if found is None:
            raise ConfigError(f"{flag} {place}: the folder holds no adapter ({', '.join(IN_FOLDER[:3])})")
        path = found
    if not path.is_file():
        raise ConfigError(f"{flag} {place}: no such file")
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"{flag} {place}: adapters are read as .safetensors; others can run code when they are opened"
        )
    check_safetensors(path)
    return path


def adapters_for(texts: Iterable[str], model: str, flag: str = "--lora") -> tuple[AdapterFile, ...]:
    """Those that are for a model of this name."""
    found = (parse_adapter(text, flag) for text in texts)
    return tuple(a for a in found if a.model in (None, model))


def check_adapters(texts: Iterable[str], models: Iterable[str], flag: str = "--lora") -> None:
    """ConfigError for a file that is not there, or is for a model that is not among `models`."""
    known = list(models)
    for text in texts:
        model = parse_adapter(text, flag).model
        if model is not None and model not in known:
            raise ConfigError(f"{flag} {text}: no model is named {model}; there is {', '.join(known)}")


def adapters_to_choose(texts: Iterable[str], models: Iterable[str], flag: str = "--lora") -> dict[str, AdapterFile]:
    """By their names, those named otherwise than one of `models`: a server draws with them where a request asks for it.

    ConfigError where two have one name, or a name is not one that a request can hold.
    """
    found: dict[str, AdapterFile] = {}
    for name, file in _named(texts, set(models), flag):
        if name in found:
            raise ConfigError(f"{flag}: two adapters are named {name}")
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise ConfigError(f"{flag} {name}={file.path}: an adapter's name has 1 to {MAX_NAME} printable characters")
        found[name] = file
    return found


def _named(texts: Iterable[str], models: set[str], flag: str) -> Iterator[tuple[str, AdapterFile]]:
    for adapter in (parse_adapter(text, flag) for text in texts):
        if adapter.model is not None and adapter.model not in models:
            yield adapter.model, adapter


def _there(place: str) -> bool:
    return Path(place).expanduser().exists()
