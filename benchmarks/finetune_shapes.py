"""Fine-tuning steps on pictures of many shapes against steps on squares, per pixel, in the same run.

    python benchmarks/finetune_shapes.py                       # a CPU: a small UNet at 64 x 64 latents, batch 16
    python benchmarks/finetune_shapes.py --size sd15           # a GPU: random weights at 512 px

Both see the same pictures: with their ratios (a camera's and a phone's: 3:2, 2:3, 4:3, 3:4, 9:16 and squares, so that
each epoch ends in steps of several shapes) and, with --square, cropped. Rounds alternate, in CPU seconds of the process
where there is no GPU. Both are in pixels a second, since shapes have some fewer pixels than the square.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from finetune_speed import SIZES, make_base
from PIL import Image

from daybreak.finetune.opening import open_data, open_trainee, plan_of
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.settings import FinetuneSettings
from daybreak.parallel import Ranks, pick_device
from daybreak.train.stage import Stage
from daybreak.train.step import Step, clip_and_step

RATIOS = {(3, 2): 70, (2, 3): 50, (4, 3): 30, (3, 4): 25, (9, 16): 20, (1, 1): 5}
"""Width to height: how many of 200 pictures."""


def make_pictures(folder: Path, side: int) -> None:
    """Noise of these ratios, each larger than its shape."""
    folder.mkdir()
    rng, number = np.random.default_rng(0), 0
    for (w, h), count in RATIOS.items():
        scale = 2 * side / min(w, h)
        for _ in range(count):
            noise = rng.integers(0, 255, (side // 4, side // 4, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((round(w * scale), round(h * scale))).save(folder / f"{number}.png")
            (folder / f"{number}.txt").write_text(f"picture number {number} of noise")
            number += 1


def stepper(base: Path, data: Path, out: Path, side: int, batch: int, square: bool) -> Callable[[], int]:
    """Takes one step; returns how many pixels it saw."""
    settings = FinetuneSettings(
        base=str(base), data=str(data), batch=batch, resolution=side, general_prompts=("noise",), sample_steps=1,
        guidance=1.0, held_out=0.0, square=square,
    )  # fmt: skip
    prepared = open_prepared(settings, pick_device())
    run = open_trainee(prepared, plan_of(prepared), open_data(prepared)[:2], out, Ranks(), lambda *_: None)
    prepared.rest()
    run.prepare()
    stage, taking = Stage(run, 0, Ranks()), Step(run, Ranks(), print)
    parts: list[int] = []

    def step() -> int:
        drawn = next(stage.batches)
        parts.append(len(drawn.cuts) + 1)
        taking.backward(drawn, run.config, 0.0, watched=False)
        clip_and_step(run.parameters(), run.optimizers, settings.clip_norm, 1.0, math.isfinite, run.scaler)
        run.update_averages()
        run.step += 1
        return sum(math.prod(run.cache.shapes[run.cache.at[n][0]]) for n in drawn.numbers)

    step.parts = parts  # type: ignore[attr-defined]
    return step


def rate(step: Callable[[], int], steps: int) -> float:
    """Pixels a second."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = clock()
    pixels = sum(step() for _ in range(steps))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return pixels / (clock() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    side = 128 if options.size == "tiny" else SIZES[options.size]["side"]  # 64 x 64 latents in both
    epoch = sum(RATIOS.values()) // options.batch
    with tempfile.TemporaryDirectory() as folder:
        base, data = Path(folder) / "base", Path(folder) / "data"
        torch.manual_seed(0)
        make_base(base, options.size)
        make_pictures(data, side)
        steps = {
            name: stepper(base, data, Path(folder) / name, side, options.batch, name == "squares")
            for name in ("squares", "shapes")
        }
        for step in steps.values():
            rate(step, 2)
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(options.rounds):
            for name, step in steps.items():
                found[name].append(rate(step, epoch))
        parts = steps["shapes"].parts  # type: ignore[attr-defined]
        print(f"{sum(p > 1 for p in parts)} of {len(parts)} steps of several shapes, up to {max(parts)}")
        middle = {name: statistics.median(rates) for name, rates in found.items()}
        ratios = [a / b for a, b in zip(found["shapes"], found["squares"], strict=True)]
        print("| pictures | Mpx/s (rounds) | ratio, median of rounds |\n|---|---|---|")
        for name, rates in found.items():
            shown = ", ".join(f"{r / 1e6:.3f}" for r in rates)
            ratio = statistics.median(ratios) if name == "shapes" else 1.0
            print(f"| {name} | {middle[name] / 1e6:.3f} ({shown}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
