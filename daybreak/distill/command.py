"""`daybreak distill`: from a trained model to one that draws in few steps, with what that cost and saved."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.arguments import split_arguments
from daybreak.box.find import model_folder
from daybreak.config import Config, ConfigError
from daybreak.data.open import open_source
from daybreak.display import Display
from daybreak.distill.compare import compare
from daybreak.run_folder import load_run_config, new_run_folder
from daybreak.train import checkpoint
from daybreak.train.loop import log_score, pick_device, train
from daybreak.train.state import TrainState

GENTLER = 0.3
"""Learning rates of a student over those of its teacher's training: it starts where the teacher ended."""


def run_distill(console: Console, arguments: list[str], steps: int, minutes: float, out: Path | None) -> None:
    """`daybreak distill`; `arguments` holds the run and settings over the student's."""
    names, settings = split_arguments(arguments)
    if len(names) != 1:
        raise ConfigError("say which run to distill, one: daybreak distill RUN --steps 4")
    run = model_folder(names[0])
    teacher = load_run_config(run)
    config = student_config(teacher, run, steps, minutes)
    for key, value in settings:
        config = configs.override(config, key, value)
    config = configs.check(config)
    out = out or new_run_folder("distill")
    start(run, teacher, config, out)
    with Display(console) as display:
        state = train(config, out, [display], resume=True)
    if state.step == 0:
        return
    *_, student = compare(console, run, teacher, state, config, out)
    figures = {k: v for k, v in asdict(student).items() if isinstance(v, float)}
    log_score(config, out, state.step, figures, console.print)
    console.print(f"go on with: daybreak train --resume {out} --train.minutes ...", highlight=False, soft_wrap=True)


def student_config(teacher: Config, run: Path, steps: int, minutes: float) -> Config:
    """The config of a student of `run` that draws in so many steps."""
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
    for key, value in changes.items():
        teacher = configs.override(teacher, key, value)
    return teacher


def start(run: Path, teacher: Config, config: Config, out: Path) -> None:
    """Makes the student's run folder, at step 0 with the teacher's weights. ConfigError where `out` is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty: choose another --out, or continue it with daybreak train --resume")
    open_source(config)  # refuses before anything is written
    networks = checkpoint.load_averaged(run, teacher, torch.device("cpu"))
    state = TrainState.around(*networks, config, pick_device())
    building = out.with_name(out.name + ".incomplete")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    configs.save(config, building / "config.yaml")
    checkpoint.save(state, building)
    if out.exists():
        out.rmdir()
    building.rename(out)
