"""`daybreak train`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

import daybreak
from daybreak import config as configs
from daybreak.allocator import give_back_freed_memory
from daybreak.arguments import Training
from daybreak.commands.find_rate import find_rate
from daybreak.config import Config
from daybreak.display import Display
from daybreak.evaluate.report_terminal import print_report
from daybreak.evaluate.scoring import Evaluation, evaluate_scenes
from daybreak.parallel import Ranks, pick_device
from daybreak.phases import phase
from daybreak.run_requests import judging
from daybreak.train.bell import Bell
from daybreak.train.deadline import Deadline, afterwards, evaluation_prompts, has_deadline
from daybreak.train.distributed import processes
from daybreak.train.loop import log_score, train
from daybreak.train.pixel import Pixel, open_stage_source
from daybreak.train.watch import Watcher
from daybreak.watch.report import Reporter, write_report


def run_train(console: Console, asked: Training, bell: str | None = None) -> None:
    """`daybreak train`; bell: what rings (train/bell.py)."""
    for note in asked.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    if asked.find_lr:
        _find_lr(console, asked.config, asked.run)
    else:
        train_and_report(console, asked.config, asked.run, asked.resume, asked.data_changed, bell)


def _find_lr(console: Console, config: Config, run: Path) -> None:
    with processes(config) as ranks:
        pixel = Pixel.create(config, open_stage_source(config, 0, 0), pick_device(), ranks.mesh)
        adam, muon = config.optim.adam_lr, config.optim.muon_lr
        find_rate(
            console, pixel, ranks, run, adam,
            lambda factor: f"--optim.adam_lr {adam * factor:.2g} --optim.muon_lr {muon * factor:.2g}",
        )  # fmt: skip


def train_and_report(
    console: Console, config: Config, run: Path, resume: bool, data_changed: bool = True, bell: str | None = None
) -> None:  # fmt: skip
    """Trains, judges what was trained on scenes, and prints the report. bell: rings when all that is over."""
    with processes(config) as ranks, Bell(bell, console) as ringing:
        run, resume = ranks.gather((run, resume))[0]  # a new folder's name, told by the clock, is the first's
        if ranks.first:
            ringing.begin(run)
        else:
            console = Console(quiet=True)
        evaluation = None
        with Display(console) as display:
            watchers: list[Watcher] = [display, Reporter(run, display.on_note), ringing]
            state = train(config, run, watchers, resume, ranks, daybreak.STARTED, data_changed)
            config = configs.at_stage(config, -1)
            if state.progress >= 1 and config.data.source == "scenes":
                evaluation = _judge(display, state, config, run, ranks)
        if state.progress < 1:
            return  # told to stop
        if ranks.first:
            if evaluation is not None:
                log_score(state.config, run, state.step, evaluation.scores, console.print)
            write_report(run)
            print_report(console, config, run, evaluation.scores if evaluation is not None else {})


def _judge(display: Display, state: Pixel, config: Config, run: Path, ranks: Ranks) -> Evaluation:
    """Draws what prompts ask for that were not drawn so far, and judges it; as much as there is time for."""
    wanted, until = evaluation_prompts(config), None
    twice = config.sample.expand is not None
    if has_deadline(config.budget):
        left = Deadline(run, state.config, ranks.world, daybreak.STARTED).seconds_left()
        until, twice = time.monotonic() + left - afterwards(state.durations, wanted), False
    give_back_freed_memory()
    with phase("judging", -(-wanted // ranks.world) * (1 + twice)), judging(run) if ranks.first else nullcontext():
        evaluation = evaluate_scenes(*state.drawing_networks(), config, run, ranks, until)
    if evaluation.pictures < wanted:
        display.on_note(f"note: there was time for {evaluation.pictures} of {wanted} prompts")
    return evaluation
