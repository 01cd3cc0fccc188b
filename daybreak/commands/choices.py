"""Options that are one of some words."""

from __future__ import annotations

from typing import Any, get_args

from daybreak.config import ConfigError


def one_of(flag: str, value: str, kind: Any) -> None:
    """ConfigError where `value` is none of a Literal's words."""
    if value not in get_args(kind):
        raise ConfigError(f"{flag} is {value!r}; it must be one of {', '.join(get_args(kind))}")
