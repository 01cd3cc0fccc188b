"""Times, sizes and amounts as they are typed: with their unit, in one grammar for all commands."""

from __future__ import annotations

import functools
import re

from daybreak.config.bounds import Typed
from daybreak.config.errors import ConfigError

TIMES = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001}
"""Seconds of the units that a time is shown in."""
OTHER_TIMES = {"m": 60.0, "sec": 1.0, "d": 86400.0}
"""What may be typed besides."""
SIZES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "KB": 1e3, "B": 1.0}
A_TIME = "a time with its unit: 24h, 90min, 1h30m, 45s or 5ms"
A_SIZE = "a size with its unit: 256MB or 1.5GB"


def parse(text: str, name: str, units: dict[str, float], wanted: str) -> float:
    """ "1h30m" -> 5400. Raises ConfigError, which says what is `wanted`, for anything else, and for bare numbers."""
    factors = {unit.lower(): factor for unit, factor in units.items()}
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    whole = re.fullmatch(r"(\d+(?:\.\d+)?\s*[a-z]+\s*)+", text.lower())
    if whole is None or any(unit not in factors for _, unit in parts):
        raise ConfigError(f"{name} is {text!r}; it must be {wanted}")
    return sum(float(number) * factors[unit] for number, unit in parts)


def show(value: float, units: dict[str, float]) -> str:
    """5400 -> "1h30min": as `parse` reads it. Nothing needs no unit: 0."""
    if value == 0:
        return "0"
    *above, (smallest, _) = units.items()
    words = ""
    for unit, factor in above:
        count = int(value / factor + 1e-9)
        words, value = words + (f"{count}{unit}" if count else ""), value - count * factor
    rest = value / units[smallest]
    return words + (f"{rest:.6g}{smallest}" if rest > 1e-6 else "")


def time_in(unit: str) -> Typed:
    """A time that is kept as a number of `unit`, one of TIMES."""
    scale = TIMES[unit]
    return Typed(
        lambda text, name: parse(text, name, TIMES | OTHER_TIMES, A_TIME) / scale,
        "<time>",
        lambda value: show(value * scale, TIMES),
    )


def size_in(unit: str) -> Typed:
    """A size that is kept as a number of `unit`, one of SIZES."""
    scale = SIZES[unit]
    return Typed(
        lambda text, name: parse(text, name, SIZES, A_SIZE) / scale,
        "<size>",
        lambda value: show(value * scale, SIZES),
    )


def in_usd(suffix: str) -> Typed:
    """An amount in USD; suffix: what it is shown with."""
    return Typed(functools.partial(parse_usd, suffix), "<usd>", lambda value: f"{value:.12g}{suffix if value else ''}")


def parse_usd(suffix: str, text: str, name: str) -> float:
    """ "1500usd", "$1500", "1500" or "2.0/gpu-hour" in USD; ConfigError for anything else."""
    match = re.fullmatch(r"\$?(\d+(?:\.\d+)?)\s*(?:usd|\$)?(?:/\s*gpu-?(?:hour|h))?", text.strip().lower())
    if match is None:
        raise ConfigError(f"{name} is {text!r}; it must be an amount in USD such as 2.5{suffix}")
    return float(match[1])
