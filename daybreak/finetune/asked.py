"""What `daybreak finetune` was asked for, checked. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

from pathlib import Path

from daybreak.config import ConfigError
from daybreak.config.fields import fields_of
from daybreak.data.listing import check_place, holds_shards
from daybreak.evaluate.request import parse_weights
from daybreak.files import check_empty
from daybreak.finetune import settings as settings_file
from daybreak.finetune.base_files import check_base
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import is_own
from daybreak.run_folder import check_there

NO_EFFECT = (
    *("train_text_encoder", "min_snr", "offset_noise", "zero_snr", "adam_8bit", "weight_decay", "micro_batch"),
    *("precision", "recompute", "sample_every", "save_every", "sampler", "sample_steps", "guidance"),
    *("base_config", "variant", "allow_pickle"),
)
"""Settings that training as daybreak train does makes no use of."""


def check_finetune(settings: FinetuneSettings, out: Path | None) -> None:
    """ConfigError for what can be known to be wrong before base and pictures are opened."""
    check_place(settings.data)
    if out is not None:
        check_run_folder(out)
    if is_own(settings.base):
        check_own(settings)
    else:
        parse_weights(list(settings.metric_weights))
        check_base(settings.base, settings.allow_pickle, settings.base_config, settings.variant)


def check_run_folder(folder: Path) -> None:
    """ConfigError where the folder of a new run is not empty."""
    check_empty(folder, f"choose another --out, or continue it with --resume {folder}")


def run_to_resume(resume: Path | None, settings: FinetuneSettings, out: Path | None) -> Path:
    """The run to go on with. ConfigError where what to do was not said, or too much, or it is no such run."""
    if resume is None:
        missing = "--data FOLDER" if settings.base else "a base"
        raise ConfigError(
            f"{missing} is missing: daybreak finetune BASE --data FOLDER, or daybreak finetune --resume RUN"
        )
    if settings.base or settings.data or out is not None:
        raise ConfigError("--resume goes on with a run as it was begun: leave the base, --data and --out out")
    check_there(resume)
    settings_file.load(resume, settings_file.OWN_FILE if is_own_run(resume) else settings_file.FINETUNED_FILE)
    return resume


def is_own_run(run: Path) -> bool:
    """Whether `own_runs.finetune_own` began this run."""
    return (run / settings_file.OWN_FILE).is_file()


def check_own(settings: FinetuneSettings) -> None:
    """ConfigError for what a run of our own cannot be fine-tuned by, or on."""
    if settings.method != "full" or settings.class_prompt or settings.instance_prompt:
        raise ConfigError(f"{settings.base} is a model of our own: it is trained whole, with --method full")
    refuse_what_has_no_effect(settings)
    if holds_shards(settings.data):
        raise ConfigError(f"--data {settings.data}: for a model of our own give a folder of captioned pictures")
    parse_weights(list(settings.metric_weights))


def refuse_what_has_no_effect(settings: FinetuneSettings) -> None:
    """ConfigError for flags that training as daybreak train does makes no use of."""
    fields = fields_of(FinetuneSettings)
    for name in NO_EFFECT:
        if settings.differs(name):
            raise ConfigError(
                f"{fields[name].flag} has no effect with {settings.base}, a model of our own: leave it out"
            )
