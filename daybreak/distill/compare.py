"""What a student is worth: beside its teacher at the teacher's steps, and at its own."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from daybreak.ablate.frechet import RenderedScenes
from daybreak.config import Config
from daybreak.data.open import open_source
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.scoring import judge_scenes
from daybreak.formats.run import load_averaged
from daybreak.model.transformer import Transformer
from daybreak.sampling.generate import generate
from daybreak.tables import print_table
from daybreak.train.pixel import Pixel

PICTURES = 64
"""Behind distance and time."""
SHOWN = 8
FRECHET_PICTURES = 400


@dataclass(frozen=True)
class Row:
    """One way of drawing.

    seconds a picture. distance: root mean squared difference, in [-1, 1] units, to what the teacher draws from the same
    noise in its own number of steps. overall, held_out in [0, 1] and frechet: on `scenes` alone.
    """

    name: str
    steps: int
    seconds: float
    distance: float
    overall: float | None = None
    held_out: float | None = None
    frechet: float | None = None


def compare(console: Console, run: Path, teacher: Config, state: Pixel, config: Config, out: Path) -> list[Row]:
    """Draws the same prompts from the same noise three ways; prints the table, writes distillation.json and .png."""
    networks = load_averaged(run, teacher, state.device)
    in_fewer = replace(teacher, sample=replace(teacher.sample, steps=config.sample.steps))
    ways: list[tuple[str, Transformer, TextEncoder, Config]] = [
        ("teacher", *networks, teacher),
        ("teacher, as few steps", *networks, in_fewer),
        ("student", state.average, state.average_text, config),
    ]
    prompts = open_source(config).some_captions(PICTURES)[:PICTURES]
    rows: list[Row] = []
    drawn: list[Tensor] = []
    for name, transformer, text_encoder, settings in ways:
        began = time.monotonic()
        drawn.append(generate(transformer, text_encoder, prompts, settings, config.evaluate.seed))
        seconds = (time.monotonic() - began) / len(prompts)
        distance = float((drawn[-1] - drawn[0]).square().mean().sqrt())
        rows.append(
            Row(name, settings.sample.steps, seconds, distance, **_on_scenes(transformer, text_encoder, settings))
        )
    shown = [p for pictures in drawn for p in pictures[:SHOWN]]
    titles = [f"{row.name}, {row.steps}: {prompt}" for row in rows for prompt in prompts[:SHOWN]]
    save_grid(torch.stack(shown), titles, out / "distillation.png", columns=len(shown) // len(rows))  # a row each
    (out / "distillation.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    _show(console, rows)
    console.print(f"{out}: distillation.json, distillation.png", highlight=False, soft_wrap=True)
    return rows


def _on_scenes(transformer: Transformer, text_encoder: TextEncoder, settings: Config) -> dict[str, float]:
    if settings.data.source != "scenes":
        return {}
    seed = settings.evaluate.seed
    scores = judge_scenes(
        lambda p: generate(transformer, text_encoder, p, settings, seed), settings.evaluate, None
    ).scores
    rendered = RenderedScenes(settings, FRECHET_PICTURES, next(transformer.parameters()).device)
    frechet = rendered.distance(transformer, text_encoder)
    return {"overall": scores["overall"], "held_out": scores["held_out"], "frechet": frechet}


def _show(console: Console, rows: list[Row]) -> None:
    lines = []
    for r in rows:
        cells = [r.name, str(r.steps), f"{1000 * r.seconds:.1f}", f"{r.distance:.3f}"]
        if r.overall is not None and r.held_out is not None and r.frechet is not None:
            cells += [f"{r.overall:.1%}", f"{r.held_out:.1%}", f"{r.frechet:.3g}"]
        lines.append(cells)
    columns = ("", "steps", "ms a picture", "distance", "overall", "held out", "Fréchet")
    print_table(console, columns[: len(lines[0])], lines)
