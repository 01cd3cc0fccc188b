"""A run that learns preferences, begun and opened: of a model of our own that is trained whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.request import Drawing
from daybreak.evaluate.subjects import Subject
from daybreak.formats.open import open_model
from daybreak.formats.run import load_averages
from daybreak.model.transformer import Transformer
from daybreak.parallel import pick_device
from daybreak.prefer.figures import Yardstick
from daybreak.prefer.import_pairs import import_pairs
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.online import Online
from daybreak.prefer.own import REFERENCE, freeze, preferring_config
from daybreak.prefer.panel import Panel, open_panel
from daybreak.prefer.prompts import Prompts, open_prompts
from daybreak.prefer.ranking import Ranking
from daybreak.prefer.settings import PreferSettings
from daybreak.prefer.trainee import Pairwise, Preferring
from daybreak.run_folder import load_run_config
from daybreak.sampling.expand import expanded
from daybreak.subjects import open_subject
from daybreak.train import checkpoint
from daybreak.train.pixel import contiguous

Note = Callable[[str], None]


def begin_own(settings: PreferSettings, run: Path, note: Note) -> None:
    """Writes into a new run's folder what it is at step 0: people's pairs, the reference, config and settings."""
    transformer, text_encoder, before = open_model(Path(settings.run), torch.device("cpu"))
    config = preferring_config(before, settings)
    import_people(settings, run, note)
    _write_reference(run / REFERENCE, transformer, text_encoder)
    trainee = learner(settings).around(freeze(transformer, settings), text_encoder, config, torch.device("cpu"))
    trainee.lessons = Lessons(
        settings, run, Prompts([], []), Yardstick([], [], Panel(), 0), lambda prompts, _: list(prompts)
    )
    trainee.save_settings(run)
    checkpoint.save(trainee, run)


def learner(settings: PreferSettings) -> type[Preferring]:
    """What learns as the settings say."""
    return Online if settings.online else Pairwise


def open_own(settings: PreferSettings, run: Path, note: Note) -> Preferring:
    """The state of the newest undamaged checkpoint, with the reference, the judges and the prompts."""
    device, config = pick_device(), load_run_config(run, last_stage=False)
    folder = checkpoint.newest_good(run, note)
    transformer, text_encoder = load_averages(folder, config)
    trainee = learner(settings).around(freeze(transformer, settings), text_encoder, config, device)
    trainee.learn(open_lessons(settings, run, config, device), *load_averages(run / REFERENCE, config))
    trainee.knows_others = True
    checkpoint.restore(trainee, folder)
    return trainee


def import_people(settings: PreferSettings, run: Path, note: Note) -> None:
    """People's pairs into a run's folder, where they make them; `note` is told how many."""

    def open_drawing(seed: int) -> Subject:
        return open_subject(settings.run, Drawing(seed), pick_device())

    told = import_pairs(settings, run, open_drawing)
    if told is not None:
        note(told)


def _write_reference(folder: Path, transformer: Transformer, text_encoder: TextEncoder) -> None:
    """The weights that the run begins with, as a checkpoint has its averaged ones."""
    folder.mkdir()
    save_file(contiguous(transformer.state_dict()), folder / "transformer.safetensors")
    if not text_encoder.frozen:
        text_encoder.save(folder)


def open_lessons(settings: PreferSettings, run: Path, config: Config | None, device: torch.device) -> Lessons:
    """Judges and prompts; config: of a model of our own. ConfigError for a judge that cannot be had."""
    panel = open_panel(settings, config is not None and config.data.source == "scenes", device)
    judge = panel.judges.get("judge")
    only = None if judge is None else judge.prompts
    prompts = open_prompts(settings, config, only)

    def write_out(prompts: Sequence[str], numbers: Sequence[int]) -> list[str]:
        return expanded(prompts, None if config is None else config.sample.expand, settings.seed, numbers)

    numbers, held_out = zip(*prompts.held_out_numbered(), strict=True)
    yardstick = Yardstick(list(held_out), write_out(held_out, numbers), panel, settings.seed)
    ranking = None
    if judge is not None:
        ranking = Ranking(judge, prompts, settings.prompts, settings.pictures, settings.seed)
    return Lessons(settings, run, prompts, yardstick, write_out, ranking)
