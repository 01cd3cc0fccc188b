"""From what a user typed to a run's config. Needs no torch: a mistake is told before seconds of importing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daybreak import config as configs
from daybreak.config import BudgetConfig, Config, ConfigError
from daybreak.data.listing import plan_ahead, with_data
from daybreak.data.reading.settings import Reading
from daybreak.data.reading.sources import Plan
from daybreak.data.sides import SIDES, fitting_side, shorter_sides
from daybreak.encoders.teacher_file import RESOLUTION, make_room
from daybreak.history.read import read
from daybreak.plan.hardware import find_gpu
from daybreak.recipes import recipe as find_recipe
from daybreak.run_folder import check_free, load_run_config, new_run_folder, refuse_preferring, run_to_continue
from daybreak.train.deadline import limited


@dataclass(frozen=True)
class Training:
    """What `daybreak train` was asked for.

    resume: `run` holds a run to go on with; data_changed: also where its data are others now. find_lr: in place of
    training. notes: what the user should know.
    """

    config: Config
    run: Path
    resume: bool = False
    data_changed: bool = False
    find_lr: bool = False
    notes: tuple[str, ...] = ()


def asked_training(
    arguments: list[str],
    data: list[str],
    out: Path | None,
    config_file: Path | None,
    resume: str | None,
    limits: BudgetConfig,
    data_changed: bool = False,
    find_lr: bool = False,
) -> Training:
    """What `daybreak train` shall do: a recipe, or a run folder to continue, with settings over it.

    `arguments` holds the recipe's name and the settings. `resume` is a run folder or "auto": the run in `out`, or
    without a recipe the newest one in runs/, if it holds a checkpoint. Raises ConfigError for what cannot be.
    """
    recipe, settings = parse_arguments(arguments)
    if find_lr and resume is not None:
        raise ConfigError("--find-lr has no effect beside --resume: it begins with new weights")
    if resume == "auto":
        run = run_to_continue(recipe, out)
    else:
        if (recipe is None) == (resume is None):
            raise ConfigError("say what to train: daybreak train RECIPE, or daybreak train --resume RUN")
        if resume is not None and out is not None:
            raise ConfigError("--out has no effect beside --resume: a run is continued in its own folder")
        run = Path(resume) if resume is not None else None
    if run is not None:
        refuse_preferring(run)
        config = load_run_config(run, last_stage=False)
    else:
        assert recipe is not None
        config = find_recipe(recipe)
    if config_file is not None:
        config = configs.load(config_file, base=config)
    if data:
        config = with_data(config, data)
    config, note = limited(config, limits)
    config = configs.check(configs.override_all(config, settings))
    if run is None and out is not None:
        check_free(out)
    notes = [] if note is None else [note]
    if config.data.source == "folder":
        plan = plan_ahead(config.data.folder or "", config.data.captions)
        own_side = config.data.resolution != find_recipe("folder").data.resolution
        if run is None and plan is not None and not own_side and (recipe or "").split("+")[0] == "folder":
            config, told = _sized(config, plan, any(key == "data.resolution" for key, _ in settings))
            notes += told
    folder = run or out or new_run_folder(recipe or "")
    return Training(config, folder, run is not None, data_changed, find_lr, tuple(notes))


def _sized(config: Config, plan: Plan, asked: bool) -> tuple[Config, list[str]]:
    """The recipe `folder` at a side that the pictures have, where it was not asked for, and what is to be said."""
    side, patch = config.data.resolution, config.model.patch
    sides = shorter_sides(plan, Reading(lines=config.data.captions))
    if asked or not sides:
        return config, []
    if (fits := fitting_side(sides, patch, SIDES[-1])) < side:
        told = f"data.resolution is {fits}, in place of the recipe's {side}: the pictures are not larger"
        return configs.override(config, "data.resolution", fits), [told]
    if fits == side:
        return config, []
    larger = min(fits, 2 * side)
    return config, [
        f"it trains at {side} px, the recipe's side; nine of ten pictures have {fits} px: --data.resolution {larger} "
        f"draws larger ones, and a step takes some {(larger / side) ** 2:.0f} times as long"
    ]


def asked_teacher(data: list[str], out: Path, resolution: int | None, seed: int) -> Config:
    """The pictures that `daybreak teach` trains a teacher of: a config with their place, side and seed.

    Makes the folder of `out`, the file to write. Raises ConfigError for what cannot be.
    """
    if resolution is not None and not data:
        raise ConfigError(
            f"--resolution is for the pictures of --data; the embedded world is painted at {RESOLUTION} px"
        )
    make_room(out)
    config = configs.override(find_recipe("folder" if data else "scenes"), "train.seed", seed)
    if (side := resolution if data else RESOLUTION) is not None:
        config = configs.override(config, "data.resolution", side)
    if data:
        config = with_data(config, data)
    if config.data.source == "folder":
        plan_ahead(config.data.folder or "", config.data.captions)
    return config


def asked_plan(arguments: list[str], gpu: str | None, calibration: Path | None, limits: BudgetConfig) -> Config:
    """The recipe that `daybreak plan` shall account for. Raises ConfigError for what cannot be."""
    _, _, config = named_recipe(arguments, limits, "say what to plan: daybreak plan RECIPE")
    if config.data.source == "folder" and config.data.folder is None:
        config = configs.override(config, "data.folder", "your pictures")  # not read here
    if gpu is not None:
        find_gpu(gpu)
    if calibration is not None:
        read(calibration)
    return configs.check(config)


def parse_arguments(arguments: list[str]) -> tuple[str | None, list[tuple[str, str]]]:
    """["scenes", "--a.b", "1", "--c.d=2"] -> ("scenes", [("a.b", "1"), ("c.d", "2")]).

    Raises ConfigError for a second name and for a setting without a value.
    """
    names, pairs = split_arguments(arguments)
    if len(names) > 1:
        raise ConfigError(f"unexpected argument {names[1]!r}; settings look like --train.minutes 20")
    return (names[0] if names else None), pairs


def named_recipe(arguments: list[str], limits: BudgetConfig, missing: str) -> tuple[str, list[tuple[str, str]], Config]:
    """The recipe that `arguments` begin with, the settings they hold, and the run that both and `limits` describe.

    Raises ConfigError, which says `missing`, where no recipe is named.
    """
    name, settings = parse_arguments(arguments)
    if name is None:
        raise ConfigError(missing)
    config, _ = limited(find_recipe(name), limits)
    return name, settings, configs.override_all(config, settings)


def split_arguments(arguments: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """As `parse_arguments`, for any number of names."""
    names, pairs, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            names.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        if not equals:
            configs.check_name(key)
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key} needs a value")
            value = rest.pop(0)
        pairs.append((key, value))
    return names, pairs
