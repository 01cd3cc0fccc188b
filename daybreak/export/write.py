"""A run as a folder for others with a model card, and such a folder as a run."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.listing import of_pictures
from daybreak.export.card import kind_written, write_card, write_finetuned_card
from daybreak.export.licences import Licences
from daybreak.export.single_file import write_single_file
from daybreak.export.usage import install_line, opening_lines, shown
from daybreak.files import folder_bytes, new_folder
from daybreak.finetune.families import family_of
from daybreak.finetune.result import merge, open_result
from daybreak.finetune.settings import load as load_settings
from daybreak.formats.diffusers_folder import differences, write_diffusers
from daybreak.formats.open import open_model
from daybreak.formats.own_folder import own_differences, write_own
from daybreak.formats.prx_keys import is_prx
from daybreak.formats.run import load_averaged
from daybreak.formats.safetensors_folder import write_safetensors
from daybreak.model_folder import PIPELINE, Format
from daybreak.parallel import pick_device
from daybreak.train import checkpoint
from daybreak.train.pixel import Pixel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export_run(
    console: Console, run: Path, config: Config, to: Format, out: Path, dtype: str, licences: Licences,
    ema: float | None,
) -> None:  # fmt: skip
    """The averaged networks of a run as a folder for others, with a model card.

    What diffusers has no class for, all but PRX, goes to diffusers with its code (own_folder.py).
    ema: the relative length of the average (train/phema.py), where the run kept snapshots; none: the run's own.
    """
    if ema is None:
        transformer, text_encoder = load_averaged(run, config, torch.device("cpu"))
    else:
        transformer, text_encoder = checkpoint.load_average_of(run, config, ema)
    parameters = sum(p.numel() for m in (transformer, text_encoder) for p in m.parameters())
    own = to == "diffusers" and not is_prx(config.model, config.routing)
    notes: list[str] = []
    if to == "diffusers":
        notes = (own_differences if own else differences)(config)
    with new_folder(out) as building:
        write = write_own if own else write_diffusers if to == "diffusers" else write_safetensors
        public = config
        for place in ("data.folder", "distill.teacher"):  # a path of this machine's says nothing elsewhere
            public = configs.override(public, place, "none")
        write(transformer, text_encoder, public, building, DTYPES[dtype])
        form = "own" if own else to
        write_card(building, run, config, form, dtype, parameters, licences, notes, shown(out))
        size = folder_bytes(building)
    for note in notes:
        console.print(f"note: not the same picture to the last digit: {note}", markup=False, highlight=False)
    console.print(
        f"{out}: {parameters / 1e6:.1f} M parameters as {dtype}, {size / 1e6:.1f} MB", highlight=False, soft_wrap=True
    )
    if to == "diffusers":
        _say_how_to_open(console, PIPELINE if own else "PRXPixelPipeline", out, dtype)
    _say_licence(console, licences)


def _say_how_to_open(console: Console, pipeline: str, out: Path, dtype: str) -> None:
    """Lines that can be copied and run as they stand."""
    lines = opening_lines(shown(out), dtype, trust=pipeline == PIPELINE)
    for line in ["open it with", "", install_line(pipeline), "", *lines, "", f"{out / 'README.md'} says more"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _say_licence(console: Console, licences: Licences) -> None:
    if licences.model is None:
        console.print("note: the card states no licence; --license and --data-license fill it in", highlight=False)


def export_finetuned(console: Console, run: Path, out: Path, dtype: str, licences: Licences) -> None:
    """A fine-tuned pipeline as one plain folder: adapters become part of the weights."""
    pipeline = open_result(run)
    merge(pipeline)
    with new_folder(out) as building:
        family_of(pipeline.to(DTYPES[dtype]), str(run)).save(building)
        write_finetuned_card(building, run, load_settings(run), pipeline, dtype, licences, shown(out))
        size = folder_bytes(building)
    kind = kind_written(out)
    console.print(f"{out}: {kind} as {dtype}, {size / 1e6:.1f} MB", highlight=False, soft_wrap=True)
    _say_how_to_open(console, kind, out, dtype)
    _say_licence(console, licences)


def export_single_file(console: Console, run: Path, out: Path, dtype: str) -> None:
    """A fine-tuned Stable Diffusion as one file; adapters become part of the weights."""
    pipeline = open_result(run)
    merge(pipeline)
    size = write_single_file(pipeline, out, DTYPES[dtype], run.resolve().name)
    line = f"{out}: {type(pipeline).__name__} as {dtype}, {size / 1e6:.1f} MB, for ComfyUI, A1111 and Forge"
    console.print(line, highlight=False, soft_wrap=True)


def import_folder(console: Console, folder: Path, out: Path, data: Path | None) -> None:
    """An exported folder as a run at step 0, to train on from. data: its pictures from now on; none: those it had."""
    transformer, text_encoder, config = open_model(folder, torch.device("cpu"))
    if data is not None:
        config = configs.override(configs.override(config, "data.source", "folder"), "data.folder", str(data))
        config = of_pictures(config)
    if config.data.source == "folder" and config.data.folder is None:
        raise ConfigError(f"{folder} does not hold its pictures; say with --data FOLDER what to train on")
    state = Pixel.around(transformer, text_encoder, config, pick_device())
    with new_folder(out) as building:
        building.mkdir(parents=True)
        configs.save(configs.check(config), building / "config.yaml")
        checkpoint.save(state, building)
    parameters = state.parameter_count() / 1e6
    console.print(f"{out}: {parameters:.1f} M parameters, ready to train", highlight=False)
    if text_encoder.frozen:
        console.print(f"note: its text encoder is frozen and stays in {config.text.pretrained}", highlight=False)
    console.print(f"go on with: daybreak train --resume {out} --train.minutes 10", highlight=False)
