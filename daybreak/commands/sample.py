"""`daybreak sample`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from torch import Tensor

from daybreak import config as configs
from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import adapters_for
from daybreak.evaluate.checks import subject_name, told
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.request import Drawing
from daybreak.formats.open import open_model
from daybreak.model_folder import check_without_data, is_pipeline, kind_of
from daybreak.parallel import pick_device
from daybreak.phases import phase
from daybreak.sampling.expand import expanded
from daybreak.sampling.generate import generate


def run_sample(console: Console, run: Path, prompts: list[str], out: Path, drawing: Drawing) -> None:
    """`daybreak sample`: prompts to one PNG, drawn by a run, what export or shrink wrote of one, or a pipeline."""
    seed = drawing.seed or 0
    drawing = replace(drawing, seed=seed)
    if is_pipeline(run) or (drawing.lora and kind_of(run) == "prx"):  # whose layers adapters name as diffusers does
        from daybreak.subjects import sample_pipeline

        written = _written_out(console, prompts, None if drawing.expand == "none" else drawing.expand, seed)
        pictures = sample_pipeline(run, written, drawing, pick_device())
        _save_sample(console, pictures, prompts, written, out)
        return
    with phase("loading the model"):
        transformer, text_encoder, config = open_model(run, pick_device())
    config = check_without_data(told(config, drawing))
    if drawing.lora:
        from daybreak.finetune.loras import add_to_own

        tell = lambda line: console.print(line, markup=False, highlight=False)  # noqa: E731
        add_to_own(transformer, text_encoder, adapters_for(drawing.lora, subject_name(str(run))), tell)
    written = _written_out(console, prompts, config.sample.expand, seed)
    config = configs.override(config, "sample.expand", "none")
    for prompt in written:
        if (cut := text_encoder.cut_off(prompt)) is not None:
            console.print(
                f"note: the prompt is longer than {text_encoder.max_tokens} tokens; not read: …{cut}", markup=False
            )
    with phase("drawing"):
        pictures = generate(transformer, text_encoder, written, config, seed, drawing.size)
    _save_sample(console, pictures, prompts, written, out)


def _written_out(console: Console, prompts: list[str], expand: str | None, seed: int) -> list[str]:
    """The prompts as they are drawn; those that were written out are shown."""
    written = expanded(prompts, expand, seed, range(len(prompts)))
    for prompt, long in zip(prompts, written, strict=True):
        if long != prompt:
            console.print(f"{prompt}\n  drawn as: {long}", markup=False, highlight=False)
    return written


def _save_sample(console: Console, pictures: Tensor, prompts: list[str], written: list[str], out: Path) -> None:
    try:
        save_grid(pictures, prompts, out, parameters={"prompts": prompts, "drawn as": written})
    except OSError as e:
        raise ConfigError(f"--out {out} cannot be written: {e.strerror or e}") from None
    console.print(f"{len(prompts)} picture{'s' if len(prompts) > 1 else ''}: {out}", highlight=False)
