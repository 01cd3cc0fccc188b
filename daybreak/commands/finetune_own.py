"""`daybreak finetune` of a model of our own: a run that starts from the averaged weights of another one."""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import daybreak
from daybreak import config as configs
from daybreak.checkpoint_files import complete
from daybreak.commands.find_rate import FINDING, find_rate
from daybreak.config import Config, ConfigError
from daybreak.data.changes import save_checks
from daybreak.data.listing import of_pictures
from daybreak.data.trigger import triggered
from daybreak.display import Display
from daybreak.evaluate.report_terminal import print_report
from daybreak.evaluate.request import parse_weights
from daybreak.files import make_folder
from daybreak.finetune import settings as settings_file
from daybreak.finetune.asked import check_own, refuse_what_has_no_effect, resumed
from daybreak.finetune.cache import split
from daybreak.finetune.opening import PICTURES, absolute, changed_data, write_skipped, write_split
from daybreak.finetune.own_report import OwnModel, draw_general, open_probes, report_own
from daybreak.finetune.pictures import Pictures, open_pictures
from daybreak.finetune.report import summary
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes
from daybreak.formats.open import open_model
from daybreak.parallel import PATIENCE, Ranks, pick_device
from daybreak.phases import phase
from daybreak.run_folder import load_run_config, new_run_folder
from daybreak.run_requests import judging
from daybreak.train import checkpoint
from daybreak.train.bell import Bell
from daybreak.train.deadline import evaluation_prompts, no_time
from daybreak.train.distributed import processes
from daybreak.train.loop import train_on
from daybreak.train.pixel import Pixel
from daybreak.train.watch import Watcher
from daybreak.watch.report import Reporter, write_report

GENTLER = 0.1
"""Of the rates that the base was trained with, where --lr says nothing."""


def finetune_own(
    console: Console, settings: FinetuneSettings, out: Path | None, find_lr: bool = False, bell: str | None = None
) -> None:  # fmt: skip
    """Trains a run of our own on other pictures, as daybreak train does, from its averaged weights.

    Before and after, the losses on held-out pictures and on the base's own pictures of general prompts are measured; a
    report compares the two. bell: what rings (train/bell.py). ConfigError for a method that only pipelines of diffusers
    have.
    """
    check_own(settings)
    settings = absolute(settings)
    goal, before = out or new_run_folder("finetune"), _base(settings)
    run = goal / FINDING if find_lr else goal
    with processes(configs.override(before.config, "train.batch", settings.batch), PATIENCE, "--batch") as ranks:
        if ranks.world > 1 and out is None:
            raise ConfigError("several processes need the name of their run folder: give --out")
        if ranks.first:
            if find_lr:
                shutil.rmtree(run, ignore_errors=True)  # of a search that was interrupted
            _make_run(run, settings, before)
        ranks.wait()
        if find_lr:
            pixel = _start(before, load_run_config(run), ranks)
            rate = pixel.config.optim.adam_lr
            find_rate(console, pixel, ranks, goal, rate, lambda factor: f"--lr {rate * factor:.2g}")
            ranks.wait()
            if ranks.first:
                shutil.rmtree(run)
        else:
            _train_and_compare(console, run, settings, before, ranks, bell=bell)


def resume_own(
    console: Console, run: Path, data_changed: bool, asked: FinetuneSettings, bell: str | None = None
) -> None:  # fmt: skip
    """Goes on with what `finetune_own` began, and ends with its report. The base must still be there, and the
    pictures where they were."""
    settings = resumed(settings_file.load(run, settings_file.OWN_FILE), asked)
    refuse_what_has_no_effect(settings)
    before = _base(settings)
    if (told := changed_data(settings, run)) is not None:
        told = f"{told}; it goes on with those that {run / 'training'} lists"
        console.print(f"note: {told}", markup=False, highlight=False)
    with processes(load_run_config(run), PATIENCE, "--batch") as ranks:
        _train_and_compare(console, run, settings, before, ranks, data_changed, bell)


def _make_run(run: Path, settings: FinetuneSettings, before: OwnModel) -> None:
    """The run's folder: its pictures and those held out, what the base makes of general prompts, its config."""
    pictures, training, held = _pictures(settings, _side(before))
    config = configs.check(_config(settings, before.config, len(training)))
    _check_files(pictures, training)
    make_folder(run, "the run folder")
    write_split(run, pictures, training, held)
    write_skipped(run, pictures.skipped)
    save_checks(run / PICTURES, pictures.checks)
    config = configs.override(config, "data.folder", str(_training_folder(run, pictures, training)))
    drawing = time.monotonic()
    with phase("drawing general prompts"):
        general = draw_general(run, before, settings)
    if settings.deadline_minutes is not None:
        drawn = settings.drawn_for_report(bool(held), general)
        if settings.report and before.judges:
            drawn += 2 * evaluation_prompts(before.config)
        seconds = drawn * (time.monotonic() - drawing) / general
        until = 60 * settings.deadline_minutes - seconds  # since the command was given, as daybreak train counts
        if until <= time.time() - daybreak.STARTED:
            raise ConfigError(no_time(seconds))
        config = configs.override(config, "budget.hours", until / 3600)
    configs.save(config, run / "config.yaml")
    settings_file.save(settings, run, settings_file.OWN_FILE)


def _start(before: OwnModel, config: Config, ranks: Ranks) -> Pixel:
    """What is trained, at step 0: a copy of the base."""
    networks = copy.deepcopy(before.transformer), copy.deepcopy(before.text_encoder)
    for network in networks:
        network.train().requires_grad_(True)
    return Pixel.around(*networks, config, before.device, ranks.mesh)


def _config(settings: FinetuneSettings, base: Config, pictures: int) -> Config:
    """The base's config with what `settings` say; gentler rates where they say nothing of them."""
    optim = base.optim
    scale = GENTLER if settings.lr is None else settings.lr / optim.adam_lr
    changes: dict[str, Any] = {
        "train.steps": settings.steps or math.ceil(settings.epochs * pictures / settings.batch),
        "train.minutes": settings.minutes,
        "train.batch": settings.batch,
        "train.seed": settings.seed,
        "train.ema": settings.ema,
        "train.trackers": list(settings.trackers),
        "optim.adam_lr": optim.adam_lr * scale,
        "optim.muon_lr": optim.muon_lr * scale,
        "optim.warmup_steps": settings.warmup_steps,
        "optim.decay_share": settings.decay_share,
        "optim.clip_norm": settings.clip_norm,
        "diffusion.p_uncond": settings.drop_captions,
        "data.source": "folder",
        "data.folder": settings.data,
        "data.flip": settings.flip,
        "evaluate.grid_prompts": list(settings.prompts),
    }
    return of_pictures(configs.override_all(base, changes.items()))


def _base(settings: FinetuneSettings) -> OwnModel:
    """What is fine-tuned, at the side of the new pictures and with the settings of its last stage."""
    transformer, text_encoder, config = open_model(Path(settings.base), torch.device("cpu"))
    side = settings.resolution or config.data.resolution
    config = configs.check(configs.override(config, "data.resolution", side))
    return OwnModel(transformer, text_encoder, config, pick_device())


def _side(model: OwnModel) -> int:
    return model.config.data.resolution


def _pictures(settings: FinetuneSettings, side: int) -> tuple[Pictures, list[int], list[int]]:
    """All pictures as squares of `side` px, and the numbers of those to train on and of those held out."""
    pictures = open_pictures(settings.data, Shapes.squares(side), settings.background, reading=settings.reading)
    if (word := settings.trigger) is not None:
        pictures.reword(lambda text: triggered(text, word))
    return pictures, *split(pictures.groups, settings.held_out, settings.seed)


def _train_and_compare(
    console: Console, run: Path, settings: FinetuneSettings, before: OwnModel, ranks: Ranks, data_changed: bool = True,
    bell: str | None = None,
) -> None:  # fmt: skip
    with Bell(bell, console) as ringing:
        if ranks.first:
            ringing.begin(run)
        else:
            console = Console(quiet=True)
        _compared(console, run, settings, before, ranks, data_changed, ringing)


def _compared(
    console: Console, run: Path, settings: FinetuneSettings, before: OwnModel, ranks: Ranks, data_changed: bool,
    bell: Bell,
) -> None:  # fmt: skip
    """Trains what is left to train; unless that was stopped, measures what was gained and forgotten."""
    probes = open_probes(run, _side(before))
    with phase("measuring the base"):
        start = {name: before.loss(probe) for name, probe in probes.items()}
    config, resume = load_run_config(run), bool(complete(run))
    with Display(console) as display:
        if resume:
            pixel = checkpoint.resume(run, config, before.device, ranks, display.on_note)
        else:  # also where it ended before its first checkpoint
            pixel = _start(before, config, ranks)
        pixel.go_on, pixel.knows_others = "daybreak finetune --resume", True
        if pixel.progress < 1:
            watchers: list[Watcher] = [display, Reporter(run, display.on_note), bell]
            train_on(pixel, run, watchers, resume, ranks, daybreak.STARTED, data_changed)
    if pixel.progress < 1 or not ranks.first:
        return
    with phase("measuring"):
        after = OwnModel(*open_model(run, torch.device("cpu")), pick_device())
        losses = {name: after.loss(probe) for name, probe in probes.items()}
    for name, loss in losses.items():
        console.print(f"{name} loss {start[name]:.4f} -> {loss:.4f} ({loss / start[name] - 1:+z.1%})", highlight=False)
    if settings.report:
        weights = parse_weights(list(settings.metric_weights))
        with phase("comparing with the base"), judging(run):
            report_own(console, run, settings, weights, before, after, start, losses)
        for line in summary(run):
            console.print(f"- {line}", markup=False, highlight=False)
    else:
        write_report(run)
    print_report(console, config, run, {})


def _check_files(pictures: Pictures, training: list[int]) -> None:
    """ConfigError where pictures do not lie in a folder, as files of their own."""
    for i in training:
        if not (key := Path(pictures.look.rows[i].key)).is_file():
            raise ConfigError(
                f"{key} is no file of its own: a model of our own is fine-tuned on a folder of pictures; for tars and "
                "tables: daybreak prepare, and daybreak train with daybreak import's run"
            )


def _training_folder(run: Path, pictures: Pictures, training: list[int]) -> Path:
    """RUN/training: the user's pictures without the held-out ones, as daybreak train reads a folder."""
    keys = [Path(pictures.look.rows[i].key) for i in training]
    folder = run / "training"
    folder.mkdir()
    lines = [
        json.dumps({"file_name": str(key.resolve()), "text": [text for text, _ in pictures.choices[i]]}) + "\n"
        for key, i in zip(keys, training, strict=True)
    ]
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder.resolve()
