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
    """ "1h30m" -> 5400. Raises ConfigError, which says what is `wanted`, for anything else; 0 alone needs no unit."""
    if text.strip() == "0":
        return 0.0
    factors = {unit.lower(): factor for unit, factor in units.items()}
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    whole = re.fullmatch(r"(\d+(?:\.\d+)?\s*[a-z]+\s*)+", text.lower())
    if whole is None or any(unit not in factors for _, unit in parts):
        raise ConfigError(f"{name} is {text!r}; it must be {wanted}")
    return sum(float(number) * factors[unit] for number, unit in parts)


def show(value: float, units: dict[str, float]) -> str:
    """5400 -> "1h30min": as `parse` reads it."""
    if value <= 0:
        return f"-{show(-value, units)}" if value else "0"
    *above, (smallest, _) = units.items()
    words = ""
    for unit, factor in above:
        count = int(value / factor + 1e-9)
        words, value = words + (f"{count}{unit}" if count else ""), value - count * factor
    rest = value / units[smallest]
    return words if words and rest < 1e-6 else f"{words}{rest:.6g}{smallest}"


def quantity(units: dict[str, float], others: dict[str, float], unit: str, wanted: str, form: str) -> Typed:
    """A number of `unit`, typed in `units` or `others` and shown in `units`. wanted: what is said of anything else."""
    scale = units[unit]
    return Typed(
        lambda text, name: parse(text, name, units | others, wanted) / scale,
        form,
        lambda value: show(value * scale, units),
    )


time_in = functools.partial(quantity, TIMES, OTHER_TIMES, wanted=A_TIME, form="<time>")
"""A time that is kept as a number of a unit: time_in("min")."""
size_in = functools.partial(quantity, SIZES, {}, wanted=A_SIZE, form="<size>")
"""A size that is kept as a number of a unit: size_in("MB")."""


def in_usd(suffix: str) -> Typed:
    """An amount in USD; suffix: what it is shown with."""
    return Typed(functools.partial(parse_usd, suffix), "<usd>", lambda value: f"{value:.12g}{suffix if value else ''}")


def parse_usd(suffix: str, text: str, name: str) -> float:
    """ "1500usd", "$1500", "1500" or "2.0/gpu-hour" in USD; ConfigError for anything else."""
    match = re.fullmatch(r"\$?(\d+(?:\.\d+)?)\s*(?:usd|\$)?(?:/\s*gpu-?(?:hour|h))?", text.strip().lower())
    if match is None:
        raise ConfigError(f"{name} is {text!r}; it must be an amount in USD such as 2.5{suffix}")
    return float(match[1])
