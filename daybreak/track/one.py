"""One run of an entry, in a process of its own: `python -m daybreak.track.one FOLDER SEED BEGAN [CHECKOUT]`.

BEGAN is when the process was started, in seconds since 1970: the clock counts from there. Standard input is a pipe from
the command that started it; where that ends, so does the run. Nothing here knows the judge's prompts.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

from daybreak.ablate.beside import beside_its_command
from daybreak.display import Display
from daybreak.files import write_whole
from daybreak.parallel import pick_device
from daybreak.track import plan as plans
from daybreak.track import rules
from daybreak.track.networks import begin
from daybreak.track.own_teacher import with_own_teacher
from daybreak.track.rate import rate
from daybreak.train.clock import Clock
from daybreak.train.guard import TrainingError
from daybreak.train.loop import train_on
from daybreak.train.pixel import Pixel, open_stage_source
from daybreak.train.watch import AlarmRecord, MetricsRecord, SampleRecord, StepRecord

CLOCK = "clock.json"
"""What a finished run writes last: when each of its averages was kept, and how fast the machine was."""
SNAPSHOTS = "snapshots"


class Snapshots:
    """Keeps the averaged weights every so many seconds of the wall, and at the end; `kept` says when each was there."""

    def __init__(self, pixel: Pixel, run: Path, began: float, every: float) -> None:
        self._pixel, self._folder = pixel, run / SNAPSHOTS
        self._offset = time.monotonic() - (time.time() - began)
        self._every, self._next = every, every
        self.kept: list[dict[str, float | int]] = []

    @property
    def seconds(self) -> float:
        """Since the run's process was started."""
        return time.monotonic() - self._offset

    def on_step(self, record: StepRecord) -> None:
        """The time counts from before they are written: that takes from what comes after."""
        seconds = self.seconds
        if seconds < self._next and record.progress < 1:
            return
        self._next = max(self._next, seconds - seconds % self._every) + self._every
        folder = self._folder / f"step-{record.step:08d}"
        folder.mkdir(parents=True)
        self._pixel.write_drawing(folder)()
        self.kept.append({"step": record.step, "images": record.images, "seconds": seconds})

    def on_samples(self, record: SampleRecord) -> None:
        """None are drawn before the end."""

    def on_metrics(self, record: MetricsRecord) -> None:
        """Nothing is measured while it runs."""

    def on_alarm(self, record: AlarmRecord) -> None:
        """The log has it."""

    def on_note(self, text: str) -> None:
        """The log has it."""


def run_one(folder: Path, seed: int, began: float, checkout: Path | None = None) -> None:
    """Trains one run of the entry in `folder`. checkout: of PRX, whose denoiser is trained in place of ours.

    Raises TrainingError where it was told to stop before its end.

    A run that was interrupted begins again: its clock cannot have stopped.
    """
    plan = plans.load(folder)
    track, config, run = plan.of_track, plan.config(seed), plans.run_folder(folder, seed)
    shutil.rmtree(run, ignore_errors=True)
    device = pick_device()
    before, load = rate(device), os.getloadavg()[0]
    source = open_stage_source(config, 0, 0)
    if plan.teach is not None:
        config = with_own_teacher(config, source, plan.teach, plans.teacher_file(folder, seed), print)
    pixel = begin(config, source, device, checkout)
    snapshots = Snapshots(pixel, run, began, track.every)
    with Display(Console()) as display:
        train_on(pixel, run, [display, snapshots])
    if Clock(config.train, pixel.seconds).progress(pixel.step) < 1:
        raise TrainingError(f"stopped at step {pixel.step}; its clock goes on, so the run begins again next time")
    cuda = device.type == "cuda"
    clock = {
        "snapshots": snapshots.kept,
        "training_seconds": pixel.seconds,
        "teacher_seconds": 0.0 if plan.teach is not None else rules.charged_seconds(config),
        "rate_before": before,
        "rate_after": rate(device),
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "parameters": pixel.parameter_count(),
        "device": torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU cores",
        "torch": torch.__version__,
    }
    write_whole(run / CLOCK, json.dumps(clock, indent=2) + "\n")


def main(folder: str, seed: str, began: str, checkout: str = "") -> int:
    """The process: 0 where the run is finished."""

    def work() -> None:
        if (track := plans.load(Path(folder)).of_track).cores is not None:
            os.sched_setaffinity(0, rules.cores_of(track))
        run_one(Path(folder), int(seed), float(began), Path(checkout) if checkout else None)

    return beside_its_command(work)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
