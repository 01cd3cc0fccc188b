"""Our own models as a base: a new run of daybreak train that starts from the averaged weights of another one."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.config import ConfigError
from daybreak.data.shards.reader import holds_shards
from daybreak.export.commands import run_import
from daybreak.export.open import form_of, open_model
from daybreak.export.safetensors_folder import WEIGHTS_FILE, write_safetensors
from daybreak.finetune.pictures import list_entries
from daybreak.finetune.settings import FinetuneSettings
from daybreak.runs import new_run_folder, run_train
from daybreak.train.deadline import Limits

GENTLER = 0.1
"""Of the rates that the base was trained with, where --lr says nothing."""


def is_own(base: str) -> bool:
    """Whether a base is a run of daybreak train, or what daybreak export made of one."""
    folder = Path(base).expanduser()
    known = any((folder / n).is_file() for n in ("config.yaml", "model_index.json", WEIGHTS_FILE))
    return known and form_of(folder) in ("run", "prx", "safetensors")


def finetune_own(console: Console, settings: FinetuneSettings, out: Path | None) -> None:
    """Trains a run of our own on other pictures, as daybreak train does: it is resumed with daybreak train --resume.

    ConfigError for a method that only pipelines of diffusers have.
    """
    if settings.method != "full" or settings.class_prompt or settings.instance_prompt:
        raise ConfigError(f"{settings.base} is a model of our own: it is trained whole, with --method full")
    if holds_shards(settings.data):
        raise ConfigError(f"--data {settings.data}: for a model of our own give a folder of captioned pictures")
    captioned = sum(bool(e.caption) for e in list_entries(settings.data))
    if not captioned:
        raise ConfigError(f"--data {settings.data}: no picture has a caption")
    run = out or new_run_folder("finetune")
    transformer, text_encoder, config = open_model(Path(settings.base).expanduser(), torch.device("cpu"))
    config = configs.at_stage(config, -1)
    optim = config.optim
    scale = GENTLER if settings.lr is None else settings.lr / optim.adam_lr
    changes = {
        "train.steps": settings.steps or math.ceil(settings.epochs * captioned / settings.batch),
        "train.minutes": settings.minutes or settings.deadline_minutes or "none",
        "train.batch": settings.batch,
        "train.seed": settings.seed,
        "optim.adam_lr": optim.adam_lr * scale,
        "optim.muon_lr": optim.muon_lr * scale,
        "optim.warmup_steps": settings.warmup_steps,
        "optim.decay_share": settings.decay_share,
        "optim.clip_norm": settings.clip_norm,
        "diffusion.p_uncond": settings.drop_captions,
        "train.ema": settings.ema,
        "data.flip": str(settings.flip).lower(),
    }
    if settings.resolution is not None:
        changes["data.resolution"] = settings.resolution
    with tempfile.TemporaryDirectory(prefix="daybreak-") as folder:
        write_safetensors(transformer, text_encoder, config, Path(folder) / "base", torch.float32)
        run_import(console, Path(folder) / "base", run, Path(settings.data).expanduser())
    words = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    run_train(console, words, [], None, None, str(run), Limits())
