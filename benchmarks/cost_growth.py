"""How time and memory of a training step grow with resolution, batch, depth and width, beside what FLOPs predict.

    python benchmarks/cost_growth.py                                     # a small model on a CPU
    python benchmarks/cost_growth.py --size published --resolutions 256,512,1024,2048 --batches 8,16,32,64  # a GPU

One thing grows at a time. `as predicted` is the growth of the time over that of the FLOPs (of the model's account for
the pictures, and of Muon for the step) against the first row of the same table: 1 means that cost follows arithmetic,
more that something else grows, less that fixed costs spread. Frozen networks stay as they are; --parts none leaves the
transformer, the text encoder and the optimiser.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import cycle

import torch
from machine import count, peak_gib, record, reset_peak, seconds
from step_time import whole_step
from workload import SIZES, batches, only, open_state

from daybreak.config import Config
from daybreak.parallel import pick_device


def measure(config: Config, rounds: int) -> tuple[float, int, float]:
    """(seconds a step, FLOPs a step, peak memory above that of the bare process, GiB)."""
    device = pick_device()
    before = peak_gib(device)
    state = open_state(config, device)
    work = cycle(batches(config, 2, (20, 60)))
    _, flops, _ = count(lambda: whole_step(state, config, next(work)))
    reset_peak(device)
    state.prepare()
    time = seconds(lambda: whole_step(state, config, next(work)), device, rounds)
    return time, flops, peak_gib(device) - before


def in_own_process(config: Config, rounds: int) -> tuple[float, int, float]:
    """`measure` where nothing has held memory before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(measure, config, rounds).result()


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "published"), default="small")
    parser.add_argument("--parts", default="none", help="all, none, or of routing+alignment+lpips+dino")
    parser.add_argument("--resolutions", type=numbers, default=[128, 256, 512])
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4])
    parser.add_argument("--depths", type=numbers, default=[2, 4, 8])
    parser.add_argument("--widths", type=numbers, default=[192, 384, 768], help="in heads of 64")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options = parser.parse_args()
    device = pick_device()
    base = only(SIZES[options.size](), options.parts)
    batch = 1 if device.type == "cpu" else 8
    depth = 4 if device.type == "cpu" else base.model.depth
    base = replace(
        base,
        train=replace(base.train, batch=batch, compile=options.compile),
        model=replace(base.model, depth=depth),
        routing=replace(base.routing, end=None),
    )
    sweeps = {
        "resolution, px": [(n, replace(base, data=replace(base.data, resolution=n))) for n in options.resolutions],
        "batch": [(n, replace(base, train=replace(base.train, batch=n))) for n in options.batches],
        "depth": [(n, replace(base, model=replace(base.model, depth=n))) for n in options.depths],
        "width": [(n, replace(base, model=replace(base.model, width=n, heads=n // 64))) for n in options.widths],
    }
    lines = [
        f"Size `{options.size}`, parts {options.parts}; where it does not grow: {base.data.resolution} px, "
        f"batch {batch}, depth {depth}, width {base.model.width}. Median of {options.rounds} rounds.",
    ]
    for what, configs in sweeps.items():
        lines += ["", f"| {what} | images/s | ms a step | GFLOP a step | TFLOP/s | as predicted | peak GiB |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        first: tuple[float, int] | None = None
        for n, config in configs:
            time, flops, memory = in_own_process(config, options.rounds)
            first = first or (time, flops)
            growth = (time / first[0]) / (flops / first[1])
            lines.append(
                f"| {n} | {config.train.batch / time:.2f} | {1e3 * time:.0f} | {flops / 1e9:.1f} "
                f"| {flops / time / 1e12:.3f} | {growth:.2f} | {memory:.2f} |"
            )
    record("How the cost of a step grows", lines, device, not options.no_append)


if __name__ == "__main__":
    main()
