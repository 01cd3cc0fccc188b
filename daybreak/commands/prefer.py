"""`daybreak prefer`: a model learns from votes, from pairs, or from a judge; then what that gained, and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file

from daybreak import STARTED
from daybreak.config import Config
from daybreak.display import Display
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.request import Drawing, parse_weights
from daybreak.files import new_folder
from daybreak.formats.open import open_model
from daybreak.formats.run import load_averages
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks, pick_device
from daybreak.phases import phase
from daybreak.prefer.figures import Yardstick
from daybreak.prefer.import_pairs import import_pairs
from daybreak.prefer.judges import Judge, open_judge
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.online import Online
from daybreak.prefer.own import REFERENCE, preferring_config
from daybreak.prefer.prompts import open_prompts
from daybreak.prefer.ranking import Ranking
from daybreak.prefer.report import report_preferences
from daybreak.prefer.settings import PreferSettings
from daybreak.prefer.trainee import Pairwise, Preferring
from daybreak.run_folder import load_run_config, new_run_folder
from daybreak.sampling.expand import expanded
from daybreak.subjects import open_subject
from daybreak.train import checkpoint
from daybreak.train.bell import Bell
from daybreak.train.loop import train_on
from daybreak.train.pixel import contiguous
from daybreak.watch.report import Reporter, write_report


def run_prefer(console: Console, settings: PreferSettings, out: Path | None, bell: str | None = None) -> None:
    """A new run, to its report."""
    run = out or new_run_folder("prefer")
    with phase("loading the model"):
        begin(console, settings, run)
    resume_prefer(console, settings, run, bell)


def resume_prefer(console: Console, settings: PreferSettings, run: Path, bell: str | None = None) -> None:
    """Goes on with what `begin` began, and ends with the report."""
    config = load_run_config(run, last_stage=False)
    with Display(console) as display, Bell(bell, console) as ringing:
        ringing.begin(run)
        trainee = open_trainee(settings, run, config, display.on_note)
        if trainee.progress < 1:
            going_on = trainee.step > 0
            train_on(trainee, run, [display, Reporter(run, display.on_note), ringing], going_on, Ranks(), STARTED)
    if trainee.progress < 1:
        return
    with phase("comparing with the reference"):
        for line in report_preferences(trainee):
            console.print(f"- {line}", markup=False, highlight=False)
    write_report(run)
    console.print(f"{run}: report.html, report/", highlight=False, soft_wrap=True)


def begin(console: Console, settings: PreferSettings, run: Path) -> None:
    """Makes the run's folder at step 0: pairs from people, the reference, config and settings; whole or not at all."""
    transformer, text_encoder, before = open_model(Path(settings.run), torch.device("cpu"))
    config = preferring_config(before, settings)
    with new_folder(run) as building:
        building.mkdir()
        told = import_pairs(settings, building, lambda seed: open_subject(settings.run, Drawing(seed), pick_device()))
        if told is not None:
            console.print(told, markup=False, highlight=False)
        write_reference(building / REFERENCE, transformer, text_encoder)
        trainee = trainee_of(settings).around(transformer, text_encoder, config, torch.device("cpu"))
        assert isinstance(trainee, Preferring)
        trainee.lessons = Lessons(settings, building, Yardstick([], [], {}, 0), lambda p, _: list(p))
        trainee.save_settings(building)
        checkpoint.save(trainee, building)


def trainee_of(settings: PreferSettings) -> type[Preferring]:
    """What learns as the settings say."""
    return Online if settings.online else Pairwise


def write_reference(folder: Path, transformer: Transformer, text_encoder: TextEncoder) -> None:
    """The weights that the run begins with, as a checkpoint has its averaged ones."""
    folder.mkdir()
    save_file(contiguous(transformer.state_dict()), folder / "transformer.safetensors")
    if not text_encoder.frozen:
        text_encoder.save(folder)


def open_trainee(settings: PreferSettings, run: Path, config: Config, note: Callable[[str], None]) -> Preferring:
    """The state of the newest undamaged checkpoint, with the reference, the judges and the prompts."""
    device = pick_device()
    folder = checkpoint.newest_good(run, note)
    trainee = trainee_of(settings).of_checkpoint(folder, config, device)
    assert isinstance(trainee, Preferring)
    trainee.learn(open_lessons(settings, run, config, device), *load_averages(run / REFERENCE, config))
    trainee.knows_others = True
    checkpoint.restore(trainee, folder)
    return trainee


def open_lessons(settings: PreferSettings, run: Path, config: Config | None, device: torch.device) -> Lessons:
    """Judges and prompts. ConfigError for a judge that cannot be had."""
    weights = parse_weights(list(settings.weights))
    scenes = config is not None and config.data.source == "scenes"
    check = settings.check or ("scenes" if scenes and settings.judge != "scenes" else None)
    named = {"judge": settings.judge, "check": check}
    judges: dict[str, Judge] = {k: open_judge(v, weights, device) for k, v in named.items() if v is not None}
    only = judges["judge"].prompts if "judge" in judges else None
    prompts = open_prompts(settings, config, only)

    def write_out(prompts: Sequence[str], numbers: Sequence[int]) -> list[str]:
        return expanded(prompts, None if config is None else config.sample.expand, settings.seed, numbers)

    numbers, held_out = zip(*prompts.held_out_numbered(), strict=True)
    yardstick = Yardstick(list(held_out), write_out(held_out, numbers), judges, settings.seed)
    ranking = None
    if "judge" in judges:
        ranking = Ranking(judges["judge"], prompts, settings.prompts, settings.pictures, settings.seed)
    return Lessons(settings, run, yardstick, write_out, ranking)
