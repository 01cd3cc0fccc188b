"""Judges what a run kept, after it has ended: a score for each of its averages, and the last one's pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.open import open_source
from daybreak.evaluate.composition import held_out_prompts, judge_all, prompts_of_tasks, score, see_all
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.metrics import Moments, frechet_distance, moments
from daybreak.evaluate.prompts import spread
from daybreak.files import write_whole
from daybreak.parallel import pick_device
from daybreak.sampling.generate import generate
from daybreak.track.networks import load
from daybreak.track.one import CLOCK, SNAPSHOTS
from daybreak.track.random_features import RandomFeatures, Scaled
from daybreak.track.rules import Track

SCORES = "scores.json"
SHOWN = 24
NETWORKS = 4
"""Random ones behind a Fréchet distance: one alone weighs blur three times as heavily as another."""


class Judge(Protocol):
    """Prompts, and what the pictures drawn of them are worth."""

    prompts: list[str]
    seed: int

    def score(self, pictures: Tensor) -> dict[str, float]:
        """Pictures [N, 3, H, W] in [-1, 1] of all prompts -> the track's measures."""
        ...

    def shown(self) -> list[int]:
        """Which prompts stand for all of them on the sheet of pictures."""
        ...


class ScenesJudge:
    """The program that reads pictures back, on one- and two-object prompts and on compositions held out."""

    def __init__(self, track: Track, seed: int) -> None:
        self.seed = seed
        told = [p for p in prompts_of_tasks(track.prompts_per_task, seed) if p.spec.task != "counting"]
        self._prompts = told + held_out_prompts(track.held_out_prompts, seed)
        self.prompts = [p.text for p in self._prompts]

    def score(self, pictures: Tensor) -> dict[str, float]:
        """See `Judge`: shares of prompts followed, in [0, 1]."""
        found = score(self._prompts, judge_all(self._prompts, see_all(pictures)))
        return {name: found[name] for name in ("one_and_two_objects", "held_out")}

    def shown(self) -> list[int]:
        """See `Judge`: evenly spread over tasks and held-out compositions."""
        return [i * len(self.prompts) // SHOWN for i in range(SHOWN)]


class PicturesJudge:
    """The Fréchet distance to the pictures of a folder, mean over random networks drawn from `seed`."""

    def __init__(self, track: Track, config: Config, seed: int) -> None:
        source = open_source(config)
        self.seed = seed
        self.prompts = spread(source.some_captions(1_000_000), track.pictures, seed)
        pictures = source.batch(0, track.pictures).images
        self._features = [Scaled(RandomFeatures(seed * NETWORKS + i), pictures) for i in range(NETWORKS)]
        self._references: list[Moments] = [moments(features(pictures)) for features in self._features]

    def score(self, pictures: Tensor) -> dict[str, float]:
        """See `Judge`: less is better."""
        found = [
            frechet_distance(moments(features(pictures)), reference)
            for features, reference in zip(self._features, self._references, strict=True)
        ]
        return {"frechet": sum(found) / NETWORKS}

    def shown(self) -> list[int]:
        """See `Judge`: the first ones; they were drawn at random."""
        return list(range(min(SHOWN, len(self.prompts))))


def open_judge(track: Track, config: Config, seed: int) -> Judge:
    """The judge of a track. config: of one of its runs, for a track whose pictures come from a folder."""
    if dict(track.fixed)["data.source"] == "scenes":
        return ScenesJudge(track, seed)
    return PicturesJudge(track, configs.at_stage(config, -1), seed)


def judge_run(
    judge: Judge, run: Path, config: Config, pictures: Path | None, tell: Callable[[str], None],
    checkout: Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Scores each average that `run` kept, writes RUN/scores.json and returns its rows: step, images, seconds, scores.

    pictures: where the sheet of the last one's pictures goes, or None. checkout: of PRX, whose denoiser was
    trained. Averages that were judged before are not again.
    """
    config, device = configs.at_stage(config, -1), pick_device()
    path, clock = run / SCORES, read_clock(run)
    rows = read_rows(run) if path.exists() else []
    for kept in clock["snapshots"][len(rows) :]:
        drawn = draw(judge, run, int(kept["step"]), config, device, checkout)
        rows.append({**kept, **judge.score(drawn)})
        write_whole(path, json.dumps(rows, indent=1) + "\n")
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in list(rows[-1].items())[3:])
        tell(f"{kept['seconds']:.0f} s, step {kept['step']:,}: {told}")
    if pictures is not None and not pictures.exists():
        drawn = draw(judge, run, int(clock["snapshots"][-1]["step"]), config, device, checkout)
        chosen = judge.shown()
        save_grid(drawn[torch.tensor(chosen)], [judge.prompts[i] for i in chosen], pictures)
    return rows


@torch.no_grad()
def draw(
    judge: Judge, run: Path, step: int, config: Config, device: torch.device, checkout: Path | None = None
) -> Tensor:
    """The pictures of the judge's prompts by the average of one step: [N, 3, H, W]."""
    transformer, text = load(run / SNAPSHOTS / f"step-{step:08d}", config, checkout)
    return generate(transformer.to(device).eval(), text.to(device).eval(), judge.prompts, config, judge.seed)


def read_clock(run: Path) -> dict[str, Any]:
    """What a finished run wrote; ConfigError where it is damaged."""
    found = _read(run / CLOCK)
    if not found["snapshots"]:
        raise ConfigError(f"{run / CLOCK} is damaged: the run kept nothing")
    return found


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The scores of a run; ConfigError where they are damaged."""
    return _read(run / SCORES)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is damaged or missing: {e}") from None
