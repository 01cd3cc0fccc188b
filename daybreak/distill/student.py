"""What `daybreak distill` is asked for, and the config of its student. Needs no torch: a mistake is told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daybreak import config as configs
from daybreak.arguments import split_arguments
from daybreak.config import Config, ConfigError
from daybreak.files import check_empty
from daybreak.model_folder import model_folder
from daybreak.run_folder import new_run_folder, trained_config

GENTLER = 0.3
"""Learning rates of a student over those of its teacher's training: it starts where the teacher ended."""


@dataclass(frozen=True)
class Distillation:
    """The run that teaches with its config, and the student's config and folder."""

    run: Path
    teacher: Config
    config: Config
    out: Path


def asked_distillation(arguments: list[str], steps: int, minutes: float, out: Path | None) -> Distillation:
    """What `daybreak distill` shall do; `arguments` holds the run and settings over the student's.

    Raises ConfigError for what cannot be.
    """
    names, settings = split_arguments(arguments)
    if len(names) != 1:
        raise ConfigError("say which run to distill, one: daybreak distill RUN --steps 4")
    run = model_folder(names[0])
    teacher = trained_config(run)
    config = configs.check(configs.override_all(student_config(teacher, run, steps, minutes), settings))
    out = out or new_run_folder("distill")
    check_student_folder(out)
    return Distillation(run, teacher, config, out)


def check_student_folder(out: Path) -> None:
    """ConfigError where a student's folder is not empty."""
    check_empty(out, "choose another --out, or continue it with daybreak train --resume")


def student_config(teacher: Config, run: Path, steps: int, minutes: float) -> Config:
    """The config of a student of `run` that draws in `steps` steps."""
    if teacher.distill.teacher is not None:
        raise ConfigError(f"{run} draws in few steps already; distill from its teacher, {teacher.distill.teacher}")
    o = teacher.optim
    changes = {
        "recipe": f"{teacher.recipe}-{steps}-steps",
        "distill.teacher": str(run.resolve()),
        "distill.steps": steps,
        "distill.guidance": teacher.sample.guidance,
        "sample.steps": steps,
        "sample.guidance": 1.0,
        "sample.guidance_kind": "classifier_free",
        "sample.sampler": "euler",
        "diffusion.p_uncond": 0.0,
        "diffusion.contrastive": 0.0,
        "routing.keep": 1.0,
        "routing.path_drop": 0.0,
        "alignment.weight": 0.0,
        "perceptual.lpips": 0.0,
        "perceptual.dino": 0.0,
        "optim.muon_lr": GENTLER * o.muon_lr,
        "optim.adam_lr": GENTLER * o.adam_lr,
        "train.minutes": minutes,
        "train.steps": None,
        "train.posthoc_ema": (),
    }
    return configs.override_all(teacher, changes.items())
