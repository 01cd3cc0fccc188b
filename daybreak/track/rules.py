"""The rules of each track, as code: what is fixed, what is charged, what is to be reached. Needs no torch.

Fixed: the world or the pictures, the training captions, the judge, its prompts. Free: everything else.

The clock starts with the run's process and never stops: loading libraries, training the tokenizer, compiling kernels,
saving, all of it counts, and on top what a taught teacher's training took. Nothing is judged while it runs: the process
keeps the averaged weights every so often, stamped with the time, and another process judges them after it has ended. So
a run sees no prompt of the judge's, and no work can hide in a pause. Time is measured in seconds of the reference
machine: the wall's, times the rate of matrix products measured in the run over the reference's.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from daybreak import config as configs
from daybreak.ablate.charge import teacher_names, teacher_seconds
from daybreak.config import Config, ConfigError, did_you_mean
from daybreak.encoders.teacher_file import taught_file
from daybreak.recipes import recipe as find_recipe

PRACTICE_SEED = 1234
"""Of prompts and noise, where no hidden seed is given: for practice, since everybody knows it."""
MOST_EVALUATIONS = 200
"""Passes of the network that drawing one picture may take: those of 100 steps with guidance."""
RECORD_SEEDS = 3
"""Runs of an entry that sets a record: times of one run differ by a tenth between seeds."""
OWN_SETTINGS = {
    "train.seed": "--seeds says how many",
    "train.sample_every": "nothing is drawn before the run's end",
    "train.sample_steps": "nothing is drawn before the run's end",
    "evaluate.seed": "--hidden-seed gives another",
    "evaluate.prompts_per_task": "the track says how many",
    "evaluate.held_out_prompts": "the track says how many",
}
"""Settings that the track gives each run itself, and why."""


@dataclass(frozen=True)
class Target:
    """What is compared: the time until `measure` reaches `reach`, or its value at `at` seconds. Less is better."""

    name: str
    title: str
    measure: Literal["one_and_two_objects", "held_out", "frechet"]
    reach: float | None = None
    at: float | None = None


@dataclass(frozen=True)
class Track:
    """The rules of one track.

    limit: reference seconds after which nothing counts; every: seconds of the wall between two kept averages.
    fixed: settings that every recipe has to have. reference_rate: FLOP/s of the reference machine's matrix products, as
    track/rate.py measures them. pictures: how many are behind a Fréchet distance. time_tolerance and score_tolerance:
    by such a share the same entry, run again, may be slower to a target, or further away at the end.
    """

    name: str
    meaning: str
    device: Literal["cpu", "gpu"]
    fixed: tuple[tuple[str, Any], ...]
    targets: tuple[Target, ...]
    limit: float
    every: float
    reference_rate: float
    cores: int | None = None
    gpus: tuple[str, ...] = ()
    prompts_per_task: int = 24
    held_out_prompts: int = 48
    pictures: int = 1000
    time_tolerance: float = 0.25
    score_tolerance: float = 0.1

    @property
    def digest(self) -> str:
        """Of the rules: entries of the same name and other rules are not compared."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def target(self, name: str) -> Target:
        """The target of that name."""
        return next(t for t in self.targets if t.name == name)


SCRATCH = (
    ("text.pretrained", None),
    ("distill.teacher", None),
    ("data.embeddings", None),
    ("budget.hours", None),
    ("budget.usd", None),
)
"""From scratch, and by the track's own clock."""
WORLD = (
    ("data.source", "scenes"),
    ("data.task_weights", (0.5, 0.5, 1.0, 1.5, 1.0, 1.5)),
    ("data.dense", 0.9),
    ("sample.expand", "scenes"),
)
"""The embedded world, nine of ten captions saying everything, and prompts written out by that world's rules."""
SCENES_TARGETS = (
    Target("half", "50 % of one- and two-object prompts", "one_and_two_objects", reach=0.5),
    Target("most", "85 % of one- and two-object prompts", "one_and_two_objects", reach=0.85),
    Target("held_out", "60 % of held-out compositions", "held_out", reach=0.6),
)

TRACKS: dict[str, Track] = {
    t.name: t
    for t in (
        Track(
            name="scenes-32-cpu",
            meaning="The embedded world at 32 px on two CPU cores: time to follow prompts.",
            device="cpu",
            cores=2,
            fixed=(*WORLD, ("data.resolution", 32), *SCRATCH),
            targets=SCENES_TARGETS,
            limit=600.0,
            every=30.0,
            reference_rate=9e11,
        ),
        Track(
            name="scenes-128-gpu",
            meaning="The embedded world at 128 px on one GPU of the H100 or H200 kind: time to follow prompts.",
            device="gpu",
            gpus=("H100", "H200"),
            fixed=(*WORLD, ("data.resolution", 128), *SCRATCH),
            targets=SCENES_TARGETS,
            limit=600.0,
            every=20.0,
            reference_rate=6.5e14,
        ),
        Track(
            name="emoji-64",
            meaning="A folder of pictures at 64 px on two CPU cores: Fréchet distance at ten minutes, in features of a "
            "network that nobody has trained.",
            device="cpu",
            cores=2,
            fixed=(("data.source", "folder"), ("data.resolution", 64), ("data.background", (255, 255, 255)),
                   ("sample.expand", None), *SCRATCH),
            targets=(Target("frechet", "Fréchet distance at 10 minutes", "frechet", at=600.0),),
            limit=600.0,
            every=100.0,
            reference_rate=9e11,
        ),
    )
}  # fmt: skip


def find_track(name: str) -> Track:
    """The track of that name; ConfigError, with the nearest name, where there is none."""
    if name not in TRACKS:
        raise ConfigError(f"unknown track {name!r}; there are {', '.join(TRACKS)}{did_you_mean(name, TRACKS)}")
    return TRACKS[name]


def cores_of(track: Track) -> list[int]:
    """The CPU cores that a run is kept on. ConfigError where there are not as many as the track wants."""
    assert track.cores is not None
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError(f"the track {track.name} keeps a run on {track.cores} CPU cores, which only Linux can")
    here = sorted(os.sched_getaffinity(0))
    if len(here) < track.cores:
        raise ConfigError(f"the track {track.name} runs on {track.cores} CPU cores, and here is {len(here)}")
    return here[: track.cores]


def run_config(track: Track, recipe: str, settings: tuple[tuple[str, str], ...], data: str | None, seed: int) -> Config:
    """The config of one run. Raises ConfigError where the recipe breaks a rule of the track."""
    config = find_recipe(recipe)
    for key, value in settings:
        if key in OWN_SETTINGS:
            raise ConfigError(f"--{key} is the track's own: {OWN_SETTINGS[key]}")
        config = configs.override(config, key, value)
    wants_data = dict(track.fixed)["data.source"] == "folder"
    if wants_data != (data is not None):
        told = "takes its pictures from a folder: --data FOLDER" if wants_data else "has its own world: no --data"
        raise ConfigError(f"the track {track.name} {told}")
    if data is not None:
        from daybreak.data.listing import with_data

        config = with_data(config, [data])
    own = (("train.seed", seed), ("train.sample_every", 1.0), ("evaluate.seed", PRACTICE_SEED))
    config = configs.check(configs.override_all(config, own))
    _check_fixed(track, config)
    _check_length(track, config)
    charged_seconds(config)
    return config


def charged_seconds(config: Config) -> float:
    """What the training of a run's teachers took, s. ConfigError where one has learnt elsewhere, or does not say."""
    total = 0.0
    for name in sorted(teacher_names(config)):
        file = taught_file(name)
        if file is None:
            raise ConfigError(
                f"{name} has learnt elsewhere, and the track charges all learning: use the embedded teacher, or a file "
                "of daybreak teach"
            )
        total += teacher_seconds(file, "a teacher of the track")
    return total


def _check_fixed(track: Track, config: Config) -> None:
    last = configs.at_stage(config, -1)
    for key, wanted in track.fixed:
        section, _, name = key.partition(".")
        found = getattr(getattr(last, section), name)
        if found != wanted:
            raise ConfigError(f"{key} is {_shown(found)}, which the track {track.name} fixes at {_shown(wanted)}")
    evaluations = last.sample.steps * (2 if last.sample.sampler == "heun" else 1)
    evaluations *= {"classifier_free": 2, "routed": 2, "both": 3}[last.sample.guidance_kind]
    if evaluations > MOST_EVALUATIONS:
        raise ConfigError(
            f"drawing a picture takes {evaluations} passes of the network, and the track allows {MOST_EVALUATIONS}: "
            f"lower sample.steps {last.sample.steps}"
        )


def _check_length(track: Track, config: Config) -> None:
    minutes = config.train.minutes
    if minutes is not None and minutes * 60 > track.limit:
        raise ConfigError(
            f"train.minutes is {minutes:g}, and the track {track.name} ends after {track.limit / 60:g}: give fewer, "
            f"such as --train.minutes {track.limit / 60 - 0.5:g}"
        )
    if minutes is None and config.train.steps is None:
        raise ConfigError("the run has no end: set --train.minutes or --train.steps")


def _shown(value: object) -> str:
    return ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else "none" if value is None else str(value)
