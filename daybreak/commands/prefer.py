"""`daybreak prefer`: a model learns from votes, from pairs, or from a judge; then what that gained, and cost."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

import daybreak
from daybreak.display import Display
from daybreak.files import new_folder
from daybreak.finetune.result import save_result
from daybreak.parallel import Ranks
from daybreak.phases import phase
from daybreak.prefer.asked import learns_whole
from daybreak.prefer.opening import Note, begin_own, open_own
from daybreak.prefer.pipeline import PreferringPipeline
from daybreak.prefer.pipeline_opening import begin_pipeline, open_pipeline_trainee
from daybreak.prefer.report import report_own, report_pipeline
from daybreak.prefer.settings import PreferSettings
from daybreak.prefer.trainee import Preferring
from daybreak.run_folder import new_run_folder
from daybreak.train.bell import Bell
from daybreak.train.loop import train_on
from daybreak.train.watch import Watcher
from daybreak.watch.report import Reporter, write_report


def run_prefer(console: Console, settings: PreferSettings, out: Path | None, bell: str | None = None) -> None:
    """A new run, to its report."""
    run = out or new_run_folder("prefer")

    def note(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    with phase("loading the model"), new_folder(run) as building:
        building.mkdir()
        (begin_own if learns_whole(settings) else begin_pipeline)(settings, building, note)
    resume_prefer(console, settings, run, bell)


def resume_prefer(console: Console, settings: PreferSettings, run: Path, bell: str | None = None) -> None:
    """Goes on with what `run_prefer` began, and ends with the report."""
    with Display(console) as display, Bell(bell, console) as ringing:
        ringing.begin(run)
        trainee = open_learner(settings, run, display.on_note)
        if trainee.progress < 1:
            watchers: list[Watcher] = [display, Reporter(run, display.on_note), ringing]
            train_on(trainee, run, watchers, trainee.step > 0, Ranks(), daybreak.STARTED)
    if trainee.progress < 1:
        return
    with phase("comparing with the reference"):
        if isinstance(trainee, PreferringPipeline):
            save_result(trainee.base, run)
            lines = report_pipeline(trainee)
        else:
            lines = report_own(trainee)
    for line in lines:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    write_report(run)
    console.print(f"{run}: report.html, report/", highlight=False, soft_wrap=True)


def open_learner(settings: PreferSettings, run: Path, note: Note) -> Preferring | PreferringPipeline:
    """The trainee that a run's settings ask for, where its newest undamaged checkpoint left it."""
    return open_own(settings, run, note) if learns_whole(settings) else open_pipeline_trainee(settings, run, note)
