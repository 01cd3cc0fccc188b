"""What `daybreak prefer` was asked for, checked. Needs no torch, so that a mistake is told at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.config.fields import fields_of
from daybreak.data.listing import holds_shards
from daybreak.data.places import is_remote
from daybreak.evaluate.pictures import open_pictures
from daybreak.evaluate.request import parse_weights
from daybreak.files import check_empty
from daybreak.finetune.settings import read_lines
from daybreak.model_folder import is_own, kind_of, model_folder
from daybreak.prefer import settings as settings_file
from daybreak.prefer.ballots import count_votes
from daybreak.prefer.judges import check_judge
from daybreak.prefer.pick_a_pic_files import files_of
from daybreak.prefer.settings import PreferSettings
from daybreak.run_folder import check_there, trained_config


def check_prefer(settings: PreferSettings, out: Path | None) -> PreferSettings:
    """The settings with full paths; ConfigError for what can be known to be wrong before the model is opened."""
    if not settings.run:
        raise ConfigError("say which model learns: daybreak prefer RUN --votes DIR, or daybreak prefer --resume RUN")
    run = model_folder(settings.run).expanduser()
    check_there(run)
    if kind_of(run) is None:
        raise ConfigError(f"{run} is no model: it is no run, and no folder of diffusers")
    if kind_of(run) == "run":
        trained_config(run)
    if settings.method == "text" and not is_own(str(run)):
        raise ConfigError(f"--method text is for models of our own, and {run} is one of diffusers")
    if out is not None:
        check_empty(out, f"choose another --out, or continue it with --resume {out}")
    if settings.votes is not None:
        count_votes(Path(settings.votes), run, settings.question)
    if settings.pairs is not None:
        files_of(Path(settings.pairs))
    for judge in filter(None, (settings.judge, settings.check)):
        check_judge(judge)
    if settings.judge is not None and settings.judge == settings.check:
        raise ConfigError(f"--check {settings.check}: the other judge has to be another one than --judge")
    parse_weights(list(settings.weights))
    reference = _absolute(settings.reference)
    if reference is not None and not holds_shards(reference):
        open_pictures(Path(reference), "--reference")
    if settings.captions is not None:
        read_lines(settings.captions, "--captions")
    return replace(
        settings,
        run=str(run.resolve()),
        votes=_absolute(settings.votes),
        pairs=_absolute(settings.pairs),
        captions=_absolute(settings.captions),
        reference=reference,
    )


def run_to_resume(resume: Path, asked: PreferSettings, out: Path | None) -> PreferSettings:
    """The settings of the run to go on with. ConfigError where it is none, or anything else was said."""
    fields = fields_of(PreferSettings)
    if given := [fields[n].flag for n in fields if asked.differs(n)] + ["--out"] * (out is not None):
        raise ConfigError(f"--resume goes on with a run as it was begun: leave {' and '.join(given)} out")
    check_there(resume)
    return settings_file.load(resume)


def learns_whole(settings: PreferSettings) -> bool:
    """Whether a model of our own is trained itself, as daybreak train does."""
    return is_own(settings.run) and settings.method != "lora"


def _absolute(place: str | None) -> str | None:
    return place if place is None or is_remote(place) else str(Path(place).expanduser().resolve())
