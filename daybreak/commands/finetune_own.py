"""Our own models as a base: a new run of daybreak train that starts from the averaged weights of another one."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from daybreak import STARTED
from daybreak import config as configs
from daybreak.arguments import asked_training
from daybreak.commands.export import run_import
from daybreak.commands.train import run_train
from daybreak.config import BudgetConfig, ConfigError
from daybreak.data.changes import save_checks
from daybreak.evaluate.request import parse_weights
from daybreak.finetune import settings as settings_file
from daybreak.finetune.asked import check_own, refuse_what_has_no_use
from daybreak.finetune.cache import split
from daybreak.finetune.loop import report_takes_all
from daybreak.finetune.opening import PICTURES, absolute, changed_data, write_skipped, write_split
from daybreak.finetune.own_report import OwnModel, OwnProbe, draw_general, open_probes, report_own
from daybreak.finetune.pictures import Pictures, open_pictures
from daybreak.finetune.report import summary
from daybreak.finetune.settings import FinetuneSettings
from daybreak.formats.open import open_model
from daybreak.formats.safetensors_folder import write_safetensors
from daybreak.parallel import pick_device
from daybreak.run_folder import new_run_folder
from daybreak.train import checkpoint

GENTLER = 0.1
"""Of the rates that the base was trained with, where --lr says nothing."""


def finetune_own(console: Console, settings: FinetuneSettings, out: Path | None, find_lr: bool = False) -> None:
    """Trains a run of our own on other pictures, as daybreak train does.

    Before and after, the losses on held-out pictures and on the base's own pictures of general prompts are measured; a
    report compares the two. ConfigError for a method that only pipelines of diffusers have.
    """
    check_own(settings, find_lr)
    settings = absolute(settings)
    run = out or new_run_folder("finetune")
    before = _base(settings)
    pictures, training, held = _pictures(settings, _side(before))
    optim = before.config.optim
    scale = GENTLER if settings.lr is None else settings.lr / optim.adam_lr
    changes: dict[str, Any] = {
        "train.steps": settings.steps or math.ceil(settings.epochs * len(training) / settings.batch),
        "train.minutes": settings.minutes,
        "train.batch": settings.batch,
        "train.seed": settings.seed,
        "optim.adam_lr": optim.adam_lr * scale,
        "optim.muon_lr": optim.muon_lr * scale,
        "optim.warmup_steps": settings.warmup_steps,
        "optim.decay_share": settings.decay_share,
        "optim.clip_norm": settings.clip_norm,
        "diffusion.p_uncond": settings.drop_captions,
        "train.ema": settings.ema,
        "data.flip": settings.flip,
        "train.trackers": list(settings.trackers),
        "evaluate.grid_prompts": list(settings.prompts),
    }
    with tempfile.TemporaryDirectory(prefix="daybreak-") as folder:
        write_safetensors(before.transformer, before.text_encoder, before.config, Path(folder) / "base", torch.float32)
        run_import(Console(quiet=True), Path(folder) / "base", run, Path(settings.data))
    write_split(run, pictures, training, held)
    write_skipped(run, pictures.skipped)
    save_checks(run / PICTURES, pictures.checks)
    changes["data.resolution"], changes["data.folder"] = _side(before), str(_training_folder(run, pictures, training))
    drawing = time.monotonic()
    general = draw_general(run, before, settings)
    if settings.deadline_minutes is not None:
        report = settings.drawn_for_report(bool(held), general) * (time.monotonic() - drawing) / general
        until = 60 * settings.deadline_minutes - report  # since the command was given, as daybreak train counts
        if until <= time.time() - STARTED:
            raise ConfigError(report_takes_all(report))
        changes["budget.hours"] = until / 3600
    config = configs.load(run / "config.yaml")
    for key, value in changes.items():
        config = configs.override(config, key, value)
    configs.save(config, run / "config.yaml")
    settings_file.save(settings, run, settings_file.OWN_FILE)
    _train_and_compare(console, run, settings, before, open_probes(run, _side(before)))


def resume_own(console: Console, run: Path) -> None:
    """Goes on with what `finetune_own` began, and ends with its report. The base must still be there, and the
    pictures where they were."""
    settings = settings_file.load(run, settings_file.OWN_FILE)
    refuse_what_has_no_use(settings, find_lr=False)
    before = _base(settings)
    if (told := changed_data(settings, run, None)) is not None:
        console.print(f"note: {told}, as {run / 'training'} lists them", markup=False, highlight=False)
    _train_and_compare(console, run, settings, before, open_probes(run, _side(before)))


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
    pictures = open_pictures(settings.data, side, settings.background, lines=settings.captions)
    return pictures, *split(pictures.groups, settings.held_out, settings.seed)


def _train_and_compare(
    console: Console, run: Path, settings: FinetuneSettings, before: OwnModel, probes: dict[str, OwnProbe]
) -> None:
    """Trains what is left to train; unless that was stopped, measures what was gained and forgotten."""
    start = {name: before.loss(probe) for name, probe in probes.items()}
    if _progress(run) < 1:
        run_train(console, asked_training([], [], None, None, str(run), BudgetConfig()))
    if _progress(run) < 1:
        console.print(f"go on with: daybreak finetune --resume {run}", highlight=False, soft_wrap=True)
        return
    after = OwnModel(*open_model(run, torch.device("cpu")), pick_device())
    losses = {name: after.loss(probe) for name, probe in probes.items()}
    for name, loss in losses.items():
        console.print(f"{name} loss {start[name]:.4f} -> {loss:.4f} ({loss / start[name] - 1:+.1%})", highlight=False)
    if settings.report:
        weights = parse_weights(list(settings.metric_weights))
        page = report_own(console, run, settings, weights, before, after, start, losses)
        for line in summary(page):
            console.print(f"- {line}", markup=False, highlight=False)
        console.print(f"report  {page}", highlight=False, soft_wrap=True)


def _progress(run: Path) -> float:
    """Share of the budget that the newest checkpoint has used."""
    return float(json.loads((checkpoint.newest(run) / "state.json").read_text())["progress"])


def _training_folder(run: Path, pictures: Pictures, training: list[int]) -> Path:
    """RUN/training: the user's pictures without the held-out ones, as daybreak train reads a folder."""
    keys = [Path(pictures.look.rows[i].key) for i in training]
    if not all(key.is_file() for key in keys):
        raise ConfigError(
            f"{keys[0]} is no file of its own: a model of our own is fine-tuned on a folder of pictures; for tars and "
            "tables: daybreak prepare, and daybreak train with daybreak import's run"
        )
    folder = run / "training"
    folder.mkdir()
    lines = [
        json.dumps({"file_name": str(key.resolve()), "text": [text for text, _ in pictures.choices[i]]}) + "\n"
        for key, i in zip(keys, training, strict=True)
    ]
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder.resolve()
