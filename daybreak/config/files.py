"""Configs, and the settings of other commands' runs, in YAML files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import yaml

from daybreak.config.errors import ConfigError
from daybreak.config.overrides import override
from daybreak.config.settings import Config, StageConfig

SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""In C where PyYAML has them: ten times as fast."""
S = TypeVar("S")


def load(path: Path, base: Config | None = None) -> Config:
    """The config of a YAML file: `base` (default: all defaults) with the file's sections over it.

    Raises ConfigError where the file is missing, is not YAML, or holds an unknown key or a wrong value.
    """
    try:
        raw = yaml.load(path.read_text(), SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"no such config file: {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        raise ConfigError(f"{path} is not readable as YAML: {' '.join(str(e).split())}") from None
    config = base or Config()
    if raw is None:
        return config
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} should hold sections such as 'train:', not a {type(raw).__name__}")
    for section, fields in raw.items():
        if section == "recipe":
            config = override(config, "recipe", fields)
        elif section == "stages":
            config = _load_stages(config, fields, path)
        elif not isinstance(fields, dict):
            raise ConfigError(f"{path}: '{section}' should be a section with fields below it")
        else:
            for name, value in fields.items():
                config = override(config, f"{section}.{name}", value)
    return config


def _load_stages(config: Config, raw: Any, path: Path) -> Config:
    """The stages of a YAML file: a list of sections, in place of the config's own."""
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise ConfigError(f"{path}: 'stages' should be a list of sections with fields such as share and resolution")
    config = dataclasses.replace(config, stages=(StageConfig(),) * len(raw))
    for i, fields in enumerate(raw):
        for name, value in fields.items():
            config = override(config, f"stages.{i}.{name}", value)
    return config


def save(config: Config, path: Path) -> None:
    """Writes `config` as YAML, every field in it."""
    # Escapes, since YAML reads some raw Unicode, such as the line separators, as plain line ends.
    path.write_text(yaml.dump(plain(config), Dumper=SafeDumper, sort_keys=False, allow_unicode=False))


def plain(config: Config) -> dict[str, Any]:
    """`config` as dicts, lists, strings and numbers: {section: {field: value}}."""
    result: dict[str, Any] = dataclasses.asdict(config)
    result["stages"] = list(result["stages"])
    for section, fields in result.items():
        if isinstance(fields, dict):
            result[section] = _lists(fields)
    return result


def plain_settings(settings: Any) -> dict[str, Any]:
    """The settings of a command as lists, strings and numbers, by field."""
    return _lists(dataclasses.asdict(settings))


def save_settings(settings: Any, path: Path) -> None:
    """Writes a command's settings as YAML, every field in it."""
    path.write_text(yaml.dump(plain_settings(settings), Dumper=SafeDumper, sort_keys=False, allow_unicode=False))


def load_settings(kind: type[S], path: Path, command: str) -> S:
    """The settings of `command` that lie in a run's folder; ConfigError where there are none, or damaged ones."""
    try:
        raw: Any = yaml.load(path.read_text(), SafeLoader)
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()})
    except FileNotFoundError:
        raise ConfigError(f"{path.parent} is no run of {command}: it holds no {path.name}") from None
    except (OSError, yaml.YAMLError, TypeError, AttributeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(e).split())}") from None


def _lists(fields: dict[str, Any]) -> dict[str, Any]:
    """YAML has no tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
