"""What a run folder tells of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybreak import checkpoint_files as folders
from daybreak.config import Config, ConfigError, load
from daybreak.run_folder import read_events, read_score

SMOOTH = 50
"""Steps over which a loss is averaged."""


@dataclass(frozen=True)
class History:
    """A run's config and the events of its log, by kind and in their order."""

    run: Path
    config: Config
    steps: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    bad_steps: list[dict[str, Any]]

    @property
    def last(self) -> dict[str, Any]:
        """The newest step; ConfigError where there is none yet."""
        if not self.steps:
            raise ConfigError(f"{self.run}: no step has ended yet")
        return self.steps[-1]

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


def read(run: Path) -> History:
    """The history of a run folder; ConfigError where it is none."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is no run folder: it holds no config.yaml")
    events = read_events(run)
    kinds = {k: [e for e in events if e.get("event") == k] for k in ("step", "samples", "metrics", "bad_step")}
    return History(run, load(run / "config.yaml"), kinds["step"], kinds["samples"], kinds["metrics"], kinds["bad_step"])


def checkpoints(run: Path) -> list[tuple[str, str | None]]:
    """(name, what is wrong with it or None) of every checkpoint, oldest first."""
    return [(p.name, folders.damage(p)) for p in folders.complete(run)]
