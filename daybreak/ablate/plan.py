"""What an ablation runs: recipes, seeds, and the budget that is equal for all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from daybreak import config as configs
from daybreak.ablate.charge import taught_files, teacher_seconds
from daybreak.config import Config, ConfigError
from daybreak.files import check_empty, make_folder, write_whole
from daybreak.recipes import recipe as find_recipe

FILE = "plan.json"
OWN_SETTINGS = {"train.seed": "--seeds", "train.minutes": "--minutes", "train.steps": "--steps"}
"""Settings that an ablation gives each run itself, and the option that says how."""


@dataclass(frozen=True)
class Plan:
    """An ablation. Exactly one of `minutes` and `steps` is set; the first recipe is the baseline.

    settings: (name, value) that hold for every recipe. charge: seconds of training that recipes with a teacher of
    `daybreak teach` (the embedded one is) have less, where `minutes` is set. pictures: how many stand behind each
    Fréchet distance.
    """

    recipes: tuple[str, ...]
    seeds: int
    minutes: float | None
    steps: int | None
    settings: tuple[tuple[str, str], ...]
    charge: float
    pictures: int

    def runs(self) -> list[tuple[str, int]]:
        """(recipe, seed) in the order of running: all recipes with one seed, then with the next.

        So an ablation that ends early has compared all, and a machine that gets busier slows all.
        """
        return [(recipe, seed) for seed in range(self.seeds) for recipe in self.recipes]

    def config(self, recipe: str, seed: int) -> Config:
        """The config of one run. Raises ConfigError, with the recipe's name, where it can't be."""
        config = find_recipe(recipe)
        try:
            config = configs.override_all(config, self.settings)
            minutes = None if self.minutes is None else self.minutes - self.charged(config) / 60
            budget = (("train.minutes", minutes), ("train.steps", self.steps), ("train.seed", seed))
            config = configs.override_all(config, budget)
            if minutes is not None and minutes <= 0:
                raise ConfigError(
                    f"training its teacher took {self.charge:.0f} s, which leaves nothing of --minutes "
                    f"{self.minutes:g}: give more minutes, or charge less with --charge-teacher TIME"
                )
            return configs.check(config)
        except ConfigError as e:
            raise ConfigError(f"{recipe}: {e}") from None

    def charged(self, config: Config) -> float:
        """Seconds of its budget that a config pays for its teacher."""
        return self.charge if self.minutes is not None and taught_files(config) else 0.0

    def check(self) -> Plan:
        """The same plan, or a ConfigError that says what is wrong with it."""
        for recipe in self.recipes:
            if self.recipes.count(recipe) > 1:
                raise ConfigError(f"{recipe} is named twice; each recipe runs once with each seed")
            self.config(recipe, 0)
        return self

    def save(self, folder: Path) -> None:
        """Writes plan.json. Raises ConfigError where `folder` holds other things, or runs that do not fit this plan."""
        path = folder / FILE
        if path.exists():
            self._check_goes_on(load(folder), folder)
        else:
            check_empty(folder, "it holds no ablation; choose another --out")
        make_folder(folder)
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")

    def _check_goes_on(self, before: Plan, folder: Path) -> None:
        """Recipes and seeds may differ: what is there already is kept. What shapes a run may not."""
        for name in ("minutes", "steps", "settings", "charge", "pictures"):
            old, new = getattr(before, name), getattr(self, name)
            if old != new:
                raise ConfigError(
                    f"{folder} holds an ablation with {name} {_shown(old)}, now it is {_shown(new)}: "
                    "go on with the same, or choose another --out"
                )


def make(
    recipes: list[str], seeds: int, minutes: float | None, steps: int | None, settings: list[tuple[str, str]],
    charge_teacher: float | None, pictures: int,
) -> Plan:  # fmt: skip
    """A checked plan from what was typed. Raises ConfigError for whatever does not make one."""
    if not recipes:
        raise ConfigError("say what to compare, the baseline first: daybreak ablate scenes scenes+tread")
    if (minutes is None) == (steps is None):
        raise ConfigError("say at what to compare: --minutes (equal time) or --steps (equal steps)")
    if steps is not None and charge_teacher is not None:
        raise ConfigError("--charge-teacher takes time from a budget of --minutes; it has no effect beside --steps")
    for key, _ in settings:
        if key in OWN_SETTINGS:
            raise ConfigError(f"--{key} is given to each run by the ablation: use {OWN_SETTINGS[key]}")
    plan = Plan(tuple(recipes), seeds, minutes, steps, tuple(settings), 0.0, pictures).check()
    if minutes is None:
        charge = 0.0
    elif charge_teacher is not None:
        charge = charge_teacher
    else:
        charge = _teachers_seconds({taught_files(plan.config(r, 0)) for r in recipes})
    return Plan(plan.recipes, seeds, minutes, steps, plan.settings, charge, pictures).check()


def load(folder: Path) -> Plan:
    """The plan of an ablation's folder; ConfigError where it is damaged."""
    try:
        raw = json.loads((folder / FILE).read_text())
        settings = tuple((key, value) for key, value in raw.pop("settings"))
        return Plan(recipes=tuple(raw.pop("recipes")), settings=settings, **raw)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise ConfigError(f"{folder / FILE} is damaged or missing: {e}") from None


def run_folder(folder: Path, recipe: str, seed: int) -> Path:
    """Where a run of the ablation in `folder` is."""
    return folder / "runs" / f"{recipe}-seed{seed}"


def _teachers_seconds(used: set[frozenset[Path]]) -> float:
    """What the training of a run's teachers took. `used`: the files of each recipe, where none may be."""
    totals = {sum(teacher_seconds(file, "--charge-teacher TIME") for file in files) for files in used if files}
    if len(totals) > 1:
        took = " and ".join(f"{s:.0f} s" for s in sorted(totals))
        raise ConfigError(
            f"the training of the recipes' teachers took {took}, and all are charged the same: "
            "say what with --charge-teacher TIME"
        )
    return totals.pop() if totals else 0.0


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(f"--{key} {setting}" for key, setting in value) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
