"""What a run folder tells of a run, of daybreak train or of daybreak finetune."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybreak import checkpoint_files as folders
from daybreak.config import Config, ConfigError, documented_fields, load, stage_at
from daybreak.config.values import shown
from daybreak.finetune import settings as finetuning
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import FINETUNED_FILE
from daybreak.run_folder import check_run, read_events, read_score

SMOOTH = 50
"""Steps over which a loss is averaged."""
TAIL_BYTES = 100_000
"""The end of a log in which its last SMOOTH steps are."""


@dataclass(frozen=True)
class History:
    """A run's settings and the events of its log, by kind and in their order.

    settings: a Config where the run is one of daybreak train's loop on a model of our own; base: what such a run was
    fine-tuned from.
    """

    run: Path
    settings: Config | FinetuneSettings
    base: str | None
    steps: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    probes: list[dict[str, Any]]
    bad_steps: list[dict[str, Any]]

    @property
    def config(self) -> Config:
        """ConfigError for a run of another model than our own."""
        if isinstance(self.settings, FinetuneSettings):
            raise ConfigError(
                f"{self.run} is a run of daybreak finetune on {self.settings.base}, not of daybreak train"
            )
        return self.settings

    @property
    def recipe(self) -> str:
        """The recipe, or what was fine-tuned and how."""
        if isinstance(self.settings, FinetuneSettings):
            return f"finetune {self.settings.base} ({self.settings.method})"
        return self.settings.recipe if self.base is None else f"finetune {self.base}"

    @property
    def batch(self) -> int:
        """Pictures a step."""
        if isinstance(self.settings, FinetuneSettings):
            return self.settings.batch
        return self.settings.train.batch

    @property
    def stage(self) -> tuple[int, int]:
        """(the number of the stage the run is in, from 1; how many there are)."""
        if isinstance(self.settings, FinetuneSettings) or not self.settings.stages:
            return 1, 1
        return stage_at(self.settings, self.last["progress"]) + 1, len(self.settings.stages)

    @property
    def go_on(self) -> str:
        """The command that continues the run."""
        train = isinstance(self.settings, Config) and self.base is None
        return f"daybreak {'train' if train else 'finetune'} --resume {self.run}"

    @property
    def last(self) -> dict[str, Any]:
        """The newest step; ConfigError where there is none yet."""
        if not self.steps:
            raise ConfigError(f"{self.run}: no step has ended yet")
        return self.steps[-1]

    def named_settings(self) -> dict[str, str]:
        """Every setting by its name, as it is typed."""
        if isinstance(self.settings, FinetuneSettings):
            return {name: shown(value) for name, value in vars(self.settings).items()}
        sections = documented_fields(self.settings)
        return {f"{section}.{name}": value for section, fields in sections for name, value, _ in fields}

    def loss(self, upto_images: float = float("inf")) -> float:
        """Mean of the last losses up to a number of pictures seen."""
        seen = [s["loss"] for s in self.steps if s["images"] <= upto_images][-SMOOTH:]
        return sum(seen) / len(seen) if seen else float("nan")

    def measured(self, name: str) -> float | None:
        """The newest value of what is not measured at every step."""
        return next((s["measured"][name] for s in reversed(self.steps) if name in s.get("measured", {})), None)

    def followed(self) -> float | None:
        """The newest share of prompts followed."""
        return next((s["followed"] for s in reversed(self.samples) if s["followed"] is not None), None)

    def score(self) -> float | None:
        """Share of prompts followed in the run's evaluation, the mean over its tasks; None where there was none."""
        return read_score(self.run).get("overall")


def read(run: Path, tail: bool = False) -> History:
    """The history of a run folder; ConfigError where it is none. tail: of its log only what came last."""
    check_run(run)
    base: str | None = None
    settings: Config | FinetuneSettings
    if (run / FINETUNED_FILE).is_file():
        settings = finetuning.load(run)
    else:
        settings = load(run / "config.yaml")
        if (run / finetuning.OWN_FILE).is_file():
            base = finetuning.load(run, finetuning.OWN_FILE).base
    events = read_events(run, TAIL_BYTES if tail else None)
    names = ("step", "samples", "metrics", "probe", "bad_step")
    kinds = {name: [e for e in events if e.get("event") == name] for name in names}
    return History(run, settings, base, *kinds.values())


def checkpoints(run: Path) -> list[tuple[str, str | None]]:
    """(name, what is wrong with it or None) of every checkpoint, oldest first."""
    return [(p.name, folders.damage(p)) for p in folders.complete(run)]
