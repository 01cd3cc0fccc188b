"""Packages that only some commands need: an optional install each, named where it is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from daybreak.config import ConfigError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """The imported module; ConfigError that says what to install where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        missing = e.name or module
        raise ConfigError(
            f"{purpose} needs the package {missing}, which is not installed: pip install 'daybreak[{extra}]'"
        ) from None
