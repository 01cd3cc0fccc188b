"""Holds `daybreak plan` against measurement: calibrated on one model, how far is its speed for others?

    OMP_NUM_THREADS=1 python benchmarks/plan.py --steps 12

Process time of one thread, so that other jobs on the machine count little. The calibration is what a run's log gives to
`daybreak plan --calibration`: the rate of matrix products, and how much longer than these a step of the first takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import time

import torch

from daybreak.config import Config, override
from daybreak.data.open import open_source
from daybreak.plan.account import account
from daybreak.plan.forecast import Machines, Pace, forecast, work_of
from daybreak.recipes import recipe
from daybreak.train.meters import matmul_rate
from daybreak.train.pixel import Pixel
from daybreak.train.precision import lower_precision
from daybreak.train.step import backward, clip_and_step

CASES: list[tuple[str, dict[str, object]]] = [
    ("scenes", {}),
    ("scenes", {"model.width": 192, "text.width": 192}),
    ("scenes", {"model.depth": 8}),
    ("scenes", {"data.resolution": 72}),
    ("scenes+tread", {"data.resolution": 72}),
    ("scenes+repa", {}),
]


def measured(config: Config, steps: int) -> tuple[float, int]:
    """Median images a second, and the mean length of the captions in tokens as they are padded."""
    source = open_source(config)
    state = Pixel.create(config, source, torch.device("cpu"))
    times, lengths = [], []
    for step in range(steps + 2):
        batch = source.batch(step * config.train.batch, config.train.batch)
        lengths.append(state.text_encoder.tokens(batch.captions)[0].shape[1])
        began = time.process_time()
        backward(state, batch, state.random(batch, config), config, 0.5, len(batch))
        clip_and_step(state.parameters(), state.optimizers, 1.0, 1.0, math.isfinite)
        times.append(time.process_time() - began)
    return config.train.batch / statistics.median(times[2:]), round(statistics.mean(lengths))


def main() -> None:
    """Prints a row for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    on: Machines | None = None
    print("| recipe | predicted images/s | measured | error |\n|---|---|---|---|")
    for name, settings in CASES:
        config = dataclasses.replace(recipe(name), stages=())
        for key, value in settings.items():
            config = override(config, key, value)
        speed, length = measured(config, arguments.steps)
        if on is None:
            (plan,) = account(config, length)
            cpu = torch.device("cpu")
            rate = matmul_rate(lower_precision(config, cpu), cpu)
            pace = Pace.measured(
                work_of(plan, 1, 1), plan.values * config.train.batch, rate * config.train.batch / speed
            )
            on = Machines(None, 1, 1, rate, pace, "the first row")
        predicted = forecast(config, on, length)[0].images_per_second
        words = ", ".join(f"{k}={v}" for k, v in settings.items())
        print(f"| {name} {words} | {predicted:.0f} | {speed:.0f} | {predicted / speed - 1:+.0%} |", flush=True)


if __name__ == "__main__":
    main()
