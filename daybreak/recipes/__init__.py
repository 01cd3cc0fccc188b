"""Recipes: functions that return a Config. The function's docstring is what `daybreak train --help` shows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from daybreak.config import Config, ConfigError, did_you_mean
from daybreak.recipes.folder import folder
from daybreak.recipes.peers import peer_dit, peer_minit2i, peer_mmdit, peer_prx
from daybreak.recipes.scenes import scenes, scenes_box, scenes_demo, scenes_gpu, scenes_stack
from daybreak.recipes.speedrun import minit2i, speedrun, speedrun2
from daybreak.recipes.variants import VARIANTS

__all__ = ["RECIPES", "VARIANTS", "recipe"]

RECIPES: dict[str, Callable[[], Config]] = {
    f.__name__.replace("_", "-"): f
    for f in (scenes, scenes_demo, scenes_box, scenes_stack, scenes_gpu, folder, speedrun, speedrun2, minit2i,
              peer_dit, peer_mmdit, peer_minit2i, peer_prx)
}  # fmt: skip


def recipe(name: str) -> Config:
    """The config of a recipe, with variants after it where its name says so: `scenes`, `scenes+tread+repa`.

    Raises ConfigError, with the nearest name, where there is none of that name.
    """
    base, *variants = name.split("+")
    config = RECIPES[_known(base, RECIPES, "recipe")]()
    for variant in variants:
        config = VARIANTS[_known(variant, VARIANTS, "variant")](config)
    return replace(config, recipe=name)


def _known(name: str, names: Collection[str], what: str) -> str:
    if name not in names:
        raise ConfigError(f"unknown {what} {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}")
    return name
