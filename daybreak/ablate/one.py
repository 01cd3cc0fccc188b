"""One run of an ablation, in a process of its own: `python -m daybreak.ablate.one FOLDER RECIPE SEED`.

Trains, or goes on from a checkpoint, then measures and writes RUN/measures.json, whose presence says that the run is
finished. Standard input is a pipe from the ablation; where that ends, the run saves and stops.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.ablate import plan as plans
from daybreak.ablate.beside import beside_its_command
from daybreak.ablate.frechet import frechet_on_scenes
from daybreak.config import Config
from daybreak.display import Display
from daybreak.evaluate.scoring import evaluate_scenes
from daybreak.files import write_whole
from daybreak.run_folder import read_events
from daybreak.train import checkpoint
from daybreak.train.clock import Clock
from daybreak.train.guard import TrainingError
from daybreak.train.host_memory import process_peak_bytes
from daybreak.train.loop import log_score, train
from daybreak.train.pixel import Pixel
from daybreak.watch.report import Reporter, write_report

MEASURES = "measures.json"
LOSS_SHARE = 0.1
"""The last share of a run over whose steps the loss is averaged."""


def run_one(plan: plans.Plan, folder: Path, recipe: str, seed: int) -> None:
    """Trains and measures one run of an ablation. Raises TrainingError where it was told to stop before its end."""
    config = plan.config(recipe, seed)
    run = plans.run_folder(folder, recipe, seed)
    resume = bool(checkpoint.complete(run))
    if not resume:
        shutil.rmtree(run, ignore_errors=True)  # of an interrupted run that had saved nothing yet
    with Display(Console()) as display:
        state = train(config, run, [display, Reporter(run, display.on_note)], resume)
    if Clock(config.train, state.seconds).progress(state.step) < 1:
        raise TrainingError(f"stopped at step {state.step} and saved; the ablation goes on from there")
    measures = measure(state, config, run, plan)
    log_score(config, run, state.step, {k: v for k, v in measures.items() if isinstance(v, float)}, print)
    write_report(run)
    write_whole(run / MEASURES, json.dumps(measures, indent=2) + "\n")


def measure(state: Pixel, config: Config, run: Path, plan: plans.Plan) -> dict[str, Any]:
    """The figures of a run that was just trained.

    Shares in [0, 1] by the keys of score.json, and frechet with frechet_floor (on `scenes` alone); images and steps
    seen, seconds of training, images_per_second over all of it, parameters that were trained, peak_memory_bytes of
    training (the GPU's where there is one), loss (the velocity term, mean over the last tenth of the steps), charged
    seconds, load (average number of processes that wanted a CPU in the run's last minute), device.
    """
    cuda = state.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else process_peak_bytes()
    measures: dict[str, Any] = {
        "loss": final_loss(run),
        "images": state.position,
        "steps": state.step,
        "seconds": state.seconds,
        "images_per_second": state.position / state.seconds,
        "parameters": state.parameter_count(),
        "peak_memory_bytes": peak,
        "charged_seconds": plan.charged(config),
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU cores",
    }
    last = configs.at_stage(config, -1)
    if last.data.source == "scenes":
        began = time.monotonic()
        measures |= evaluate_scenes(state.average, state.average_text, last, run).scores
        distance, floor = frechet_on_scenes(state.average, state.average_text, last, plan.pictures)
        measures |= {"frechet": distance, "frechet_floor": floor, "evaluation_seconds": time.monotonic() - began}
    return measures


def final_loss(run: Path) -> float:
    """Mean velocity loss over the last tenth of a run's steps: the term that all variants have."""
    losses = [e["terms"]["velocity"] for e in read_events(run) if e["event"] == "step"]
    last = losses[-max(1, round(LOSS_SHARE * len(losses))) :]
    return sum(last) / len(last)


def main(folder: str, recipe: str, seed: str) -> int:
    """The process: 0 where the run is finished."""
    return beside_its_command(lambda: run_one(plans.load(Path(folder)), Path(folder), recipe, int(seed)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
