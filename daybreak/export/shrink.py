"""`daybreak shrink`: a run in 8 bits, and what that changed."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.composition import held_out_prompts
from daybreak.evaluate.scoring import evaluate_scenes
from daybreak.extras import require
from daybreak.files import folder_bytes, new_folder
from daybreak.formats.quantized_folder import (
    WEIGHTS_FILE,
    Kind,
    check_hardware,
    quantize,
    read_quantized,
    weight_bytes,
    write_quantized,
)
from daybreak.formats.run import load_averaged
from daybreak.model.transformer import Transformer
from daybreak.parallel import pick_device
from daybreak.phases import phase
from daybreak.run_folder import trained_config
from daybreak.sampling.generate import generate
from daybreak.tables import print_table

COMPARED = 16
"""Pictures that are generated with both to compare them and to take the time."""


@dataclass(frozen=True)
class Measured:
    """Bytes in memory, seconds a picture, the overall score (runs on scenes only) and the pictures themselves."""

    memory: int
    seconds: float
    score: float | None
    pictures: Tensor


def run_shrink(console: Console, run: Path, to: Kind, out: Path) -> None:
    """Writes the run's averaged networks in 8 bits into `out`; shows size, speed, score, pictures beside the full."""
    device = pick_device()
    check_hardware(to, device)
    require("torchao", "quant", "daybreak shrink")
    config = trained_config(run)
    transformer, text_encoder = load_averaged(run, config, device)
    with phase("drawing and judging with the full weights"):
        full = _measure(transformer, text_encoder, config)
    full_size = sum(weight_bytes(m) for m in (transformer, text_encoder.network))
    public = configs.override(config, "data.folder", "none")
    with new_folder(out) as building:
        write_quantized(quantize(transformer, text_encoder, to), text_encoder, public, to, building)
        with phase(f"drawing and judging with {to}"):
            small = _measure(*read_quantized(building, device)[:2], config)  # what is on disk is what is judged
        small_size = (building / WEIGHTS_FILE).stat().st_size
        difference = float((small.pictures - full.pictures).abs().mean()) / 2
        report = {
            "kind": to,
            "size_share": small_size / full_size,
            "seconds_per_picture": {"full": full.seconds, to: small.seconds},
            "weights_in_memory_bytes": {"full": full.memory, to: small.memory},
            "score": {"full": full.score, to: small.score},
            "mean_picture_difference": difference,
        }
        (building / "shrink.json").write_text(json.dumps(report, indent=2) + "\n")
        total = folder_bytes(building)
    _show(console, to, full, small, full_size, small_size, difference)
    console.print(f"{out}: {total / 1e6:.2f} MB with tokenizer; try it: daybreak serve {out}", highlight=False)


def _measure(transformer: Transformer, text_encoder: TextEncoder, config: Config) -> Measured:
    scenes = config.data.source == "scenes"
    e = config.evaluate
    prompts = [p.text for p in held_out_prompts(COMPARED, e.seed)] if scenes else list(e.grid_prompts or ("a picture",))
    prompts = (prompts * COMPARED)[:COMPARED]
    generate(transformer, text_encoder, prompts[:1], config, e.seed)  # the first call makes kernels
    began = time.perf_counter()
    pictures = generate(transformer, text_encoder, prompts, config, e.seed)
    seconds = (time.perf_counter() - began) / len(prompts)
    score = None
    if scenes:
        folder = Path(tempfile.mkdtemp())
        try:
            score = evaluate_scenes(transformer, text_encoder, config, folder).scores["overall"]
        finally:
            shutil.rmtree(folder)
    memory = weight_bytes(nn.ModuleList([transformer, text_encoder.network]))
    return Measured(memory, seconds, score, pictures)


def _show(
    console: Console, to: Kind, full: Measured, small: Measured, full_size: int, small_size: int, difference: float
) -> None:

    def mb(size: float) -> str:
        return f"{size / 1e6:.2f} MB"

    speed = f"{full.seconds / small.seconds:.2f} x the speed"
    rows = [
        ("weights on disk", mb(full_size), mb(small_size), f"{small_size / full_size:.1%} of it"),
        ("weights in memory", mb(full.memory), mb(small.memory), f"{small.memory / full.memory:.1%} of it"),
        ("a picture takes", f"{full.seconds:.3f} s", f"{small.seconds:.3f} s", speed),
    ]
    if full.score is not None and small.score is not None:
        points = f"{100 * (small.score - full.score):+.1f} points"
        rows.append(("score", f"{full.score:.1%}", f"{small.score:.1%}", points))
    rows.append(("pictures differ by", "", "", f"{255 * difference:.2f} of 255 on average"))
    print_table(console, ("", "full", to, "change"), rows)
    if torch.cuda.is_available():
        console.print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB", highlight=False)
