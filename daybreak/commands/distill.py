"""`daybreak distill`: from a trained model to one that draws in few steps, with what that cost and saved."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.config import Config
from daybreak.data.open import open_source
from daybreak.display import Display
from daybreak.distill.compare import compare
from daybreak.distill.student import Distillation, check_student_folder
from daybreak.formats.run import load_averaged
from daybreak.parallel import pick_device
from daybreak.phases import phase
from daybreak.train import checkpoint
from daybreak.train.loop import log_score, train
from daybreak.train.pixel import Pixel
from daybreak.watch.report import Reporter, write_report


def run_distill(console: Console, asked: Distillation) -> None:
    """`daybreak distill`."""
    run, teacher, config, out = asked.run, asked.teacher, asked.config, asked.out
    with phase("loading the teacher"):
        start(run, teacher, config, out)
    with Display(console) as display:
        state = train(config, out, [display, Reporter(out, display.on_note)], resume=True)
    if state.step == 0:
        return
    with phase("comparing with the teacher"):
        *_, student = compare(console, run, teacher, state, config, out)
    figures = {k: v for k, v in asdict(student).items() if isinstance(v, float)}
    log_score(config, out, state.step, figures, console.print)
    write_report(out)
    console.print(f"go on with: daybreak train --resume {out} --train.minutes ...", highlight=False, soft_wrap=True)


def start(run: Path, teacher: Config, config: Config, out: Path) -> None:
    """Makes the student's run folder, at step 0 with the teacher's weights. ConfigError where `out` is not empty."""
    check_student_folder(out)
    open_source(config)  # refuses before anything is written
    networks = load_averaged(run, teacher, torch.device("cpu"))
    state = Pixel.around(*networks, config, pick_device())
    building = out.with_name(out.name + ".incomplete")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    configs.save(config, building / "config.yaml")
    checkpoint.save(state, building)
    if out.exists():
        out.rmdir()
    building.rename(out)
