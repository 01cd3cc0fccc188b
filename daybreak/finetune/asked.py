"""What `daybreak finetune` was asked for, checked. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.config.fields import fields_of
from daybreak.data.listing import check_place, holds_shards
from daybreak.evaluate.adapter_option import find_adapter
from daybreak.evaluate.request import parse_weights
from daybreak.files import check_empty
from daybreak.finetune import settings as settings_file
from daybreak.finetune.base_files import check_base
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import is_own, own_adapted
from daybreak.run_folder import FOUND_RATE, check_there, refuse_preferring

NO_EFFECT = (
    *("train_text_encoder", "min_snr", "offset_noise", "zero_snr", "adam_8bit", "weight_decay", "micro_batch"),
    *("precision", "recompute", "sample_every", "save_every", "sampler", "sample_steps", "guidance"),
    *("base_config", "variant", "allow_pickle", "square", "max_ratio", "upscale"),
    *("masks", "unmasked", "shuffle_tags", "keep_tags", "tag_separator"),
)
"""Settings that training as daybreak train does makes no use of."""


REPORTING = ("report", "report_pictures", "metric_weights")
PACE = ("lr", "text_lr", "epochs", "steps", "minutes", "deadline_minutes", "save_every")
"""What may be other when a run goes on, the pace not of a model of our own, whose config.yaml has it."""


def check_finetune(settings: FinetuneSettings, out: Path | None) -> None:
    """ConfigError for what can be known to be wrong before base and pictures are opened."""
    check_place(settings.data, settings.reading)
    if out is not None:
        check_run_folder(out)
    if settings.lora is not None:
        find_adapter(settings.lora)
    if trains_own(settings):
        check_own(settings)
    else:
        parse_weights(list(settings.metric_weights))
        if not own_adapted(settings.base):
            check_base(settings.base, settings.allow_pickle, settings.base_config, settings.variant)


def trains_own(settings: FinetuneSettings) -> bool:
    """Whether the base is a model of our own that is trained as daybreak train does; adapters are trained otherwise."""
    return is_own(settings.base) and not settings.low_rank


def check_run_folder(folder: Path) -> None:
    """ConfigError where the folder of a new run is not empty, but for what --find-lr left there."""
    if folder.is_dir() and all(p.name in FOUND_RATE or p.name.startswith(".") for p in folder.iterdir()):
        return
    check_empty(folder, f"choose another --out, or continue it with --resume {folder}")


def run_to_resume(resume: Path | None, settings: FinetuneSettings, out: Path | None, find_lr: bool) -> Path:
    """The run to go on with. ConfigError where what to do was not said, or too much, or it is no such run."""
    if resume is None:
        missing = "--data FOLDER" if settings.base else "a base"
        raise ConfigError(
            f"{missing} is missing: daybreak finetune BASE --data FOLDER, or daybreak finetune --resume RUN"
        )
    if settings.base or settings.data or out is not None:
        raise ConfigError("--resume goes on with a run as it was begun: leave the base, --data and --out out")
    check_there(resume)
    refuse_preferring(resume)
    own = is_own_run(resume)
    settings_file.load(resume, settings_file.OWN_FILE if own else settings_file.FINETUNED_FILE)
    fields, may_change = fields_of(FinetuneSettings), REPORTING if own else (*REPORTING, *PACE)
    fixed = [fields[n].flag for n in fields if n not in ("base", "data", *may_change) and settings.differs(n)]
    if fixed or find_lr:
        flags = [fields[n].flag for n in may_change]
        raise ConfigError(
            f"{', '.join(fixed + ['--find-lr'] * find_lr)} cannot change when a run goes on: leave it out; what can "
            f"are {', '.join(flags)}"
        )
    return resume


def resumed(stored: FinetuneSettings, asked: FinetuneSettings) -> FinetuneSettings:
    """The settings of a run that goes on, with what may change and was asked for."""
    return replace(stored, **{n: getattr(asked, n) for n in (*REPORTING, *PACE) if asked.differs(n)})


def is_own_run(run: Path) -> bool:
    """Whether `commands/finetune_own.py` began this run."""
    return (run / settings_file.OWN_FILE).is_file()


def check_own(settings: FinetuneSettings) -> None:
    """ConfigError for what a run of our own cannot be fine-tuned by, or on."""
    if settings.method != "full" or settings.class_prompt or settings.instance_prompt:
        raise ConfigError(
            f"{settings.base} is a model of our own: it is trained whole, --method full, or with an adapter, "
            "--method lora"
        )
    refuse_what_has_no_effect(settings)
    if len(set(settings.caption.values())) > 1:
        raise ConfigError(f"--caption: the weights have no effect with {settings.base}, a model of our own")
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
