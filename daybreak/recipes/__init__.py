"""Recipes: functions that return a Config. The function's docstring is what `daybreak train --help` shows."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from daybreak.config import Config, ConfigError
from daybreak.recipes.folder import folder
from daybreak.recipes.scenes import scenes, scenes_gpu

RECIPES: dict[str, Callable[[], Config]] = {f.__name__.replace("_", "-"): f for f in (scenes, scenes_gpu, folder)}


def recipe(name: str) -> Config:
    """The config of a recipe; ConfigError, with the nearest name, where there is none of that name."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown recipe {name!r}; there are {', '.join(RECIPES)}{hint}")
    return RECIPES[name]()
