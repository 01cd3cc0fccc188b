"""Where the time of a training step goes, and what the machine would allow.

    python benchmarks/step_time.py                                        # every part, at a size for a CPU
    python benchmarks/step_time.py --size scenes --batch 48
    python benchmarks/step_time.py --resolution 256,512 --batch 2,4 --parts all,none,routing
    python benchmarks/step_time.py --size published --batch 32,64 --resolution 512,1024 --compile    # on a GPU

Sizes are those of workload.py; frozen networks have random weights. `GFLOP` are those of matrix products and
convolutions as torch counts them. `at matmul rate` is how long these would take at the rate of one large product
measured in the same run and precision; `at memory rate` is how long it would take to bring every operation's inputs
and outputs through memory at the measured rate, if nothing were fused and no cache helped. A part that takes as long as
the first is at the machine's limit; one that takes as long as both together wastes nothing but fusion. MFU is the
model's own account (`daybreak plan`, with captions at their real length) over the matmul rate.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, product
from typing import Any

import torch
from machine import count, matmul_rate, memory_rate, now, peak_gib, record, reset_peak
from torch import Tensor
from workload import SIZES, batches, only, open_state

from daybreak.config import Config
from daybreak.data.batch import Batch
from daybreak.diffusion import flow
from daybreak.losses import compute as losses
from daybreak.model.transformer import Prediction
from daybreak.parallel import pick_device
from daybreak.plan.account import account
from daybreak.train.ema import update_average
from daybreak.train.pixel import Pixel, StepRandomness
from daybreak.train.precision import autocast, lower_precision
from daybreak.train.step import backward, clip_and_step

PARTS = ("data and noise", "text", "forward", "teachers and losses", "backward", "optimiser", "EMA")
Phase = Callable[[str, Callable[[], Any]], Any]


def whole_step(state: Pixel, config: Config, batch: Batch) -> None:
    """The step as the training loop does it."""
    backward(state, batch, state.random(batch, config), config, 0.0, len(batch))
    parameters, clip = state.parameters(), config.optim.clip_norm
    _, applied = clip_and_step(parameters, state.optimizers, clip, 1.0, math.isfinite)
    assert applied, "the gradient is not finite, so no update was made"
    state.update_averages()
    state.step += 1


def average(state: Pixel, config: Config, anyway: bool = False) -> None:
    """The loop's update of the averaged weights, every so many steps or `anyway`."""
    every = config.train.ema_every
    if (state.step + 1) % every and not anyway:
        return
    update_average(state.average, state.transformer, config.train.ema, state.step // every)
    if not state.text_encoder.frozen:
        update_average(state.average_text, state.text_encoder, config.train.ema, state.step // every)


def divided_step(state: Pixel, config: Config, batch: Batch, phase: Phase) -> None:
    """The same step in parts, each through `phase`; the losses' own backward pass counts as theirs."""
    device = state.device

    def data() -> tuple[Tensor, StepRandomness]:
        random = StepRandomness.draw(batch.shape, config, state.generator)
        return batch.to(device).images, random.to(device)

    x0, random = phase("data and noise", data)
    captions = ["" if drop else c for c, drop in zip(batch.captions, random.drop.tolist(), strict=True)]
    weights = losses.weights(config, 0.0)
    layer = config.alignment.layer if "alignment" in weights else None
    with autocast(config, device):
        text = phase("text", lambda: state.text_encoder(captions))
        x_t = flow.interpolate(x0, random.noise, random.t)
        made = phase("forward", lambda: state.transformer(x_t, random.t, text, random.visible, layer, random.path_drop))
        inputs = [t for t in (made.x0, made.features) if t is not None]
        leaves = [t.detach().requires_grad_() for t in inputs]
        seen = Prediction(leaves[0], leaves[1] if len(leaves) > 1 else None, made.visible)

        def terms() -> None:
            found = losses.compute(seen, x0, x_t, random.t, state.objective, config, set(weights))
            with torch.autocast(device.type, enabled=False):
                torch.stack([weights[name] * term for name, term in found.items()]).sum().backward()

        phase("teachers and losses", terms)
    phase("backward", lambda: torch.autograd.backward(inputs, [leaf.grad for leaf in leaves]))
    phase(
        "optimiser",
        lambda: clip_and_step(state.parameters(), state.optimizers, config.optim.clip_norm, 1.0, math.isfinite),
    )
    phase("EMA", lambda: average(state, config, anyway=True))
    state.step += 1


def measure(config: Config, options: argparse.Namespace, device: torch.device, rates: tuple[float, float]) -> list[str]:
    """Two tables: the parts, and a summary row (the last line)."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    reset_peak(device)
    state = open_state(config, device)
    waiting = cycle(batches(config, 4, (options.words[0], options.words[1])))
    every = config.train.ema_every
    counted: dict[str, tuple[int, int]] = {}

    def counting(name: str, work: Callable[[], Any]) -> Any:
        result, flops, traffic = count(work)
        share = every if name == "EMA" else 1
        counted[name] = flops // share, traffic // share
        return result

    divided_step(state, config, next(waiting), counting)
    state.prepare()
    times: dict[str, list[float]] = {name: [] for name in PARTS}

    def timing(name: str, work: Callable[[], Any]) -> Any:
        began = now(device)
        result = work()
        times[name].append(now(device) - began)
        return result

    whole: list[float] = []
    for number in range(options.rounds + options.warmup):
        if number == options.warmup:
            for values in times.values():
                values.clear()
        batch = next(waiting)
        began = now(device)
        whole_step(state, config, batch)
        if number >= options.warmup:
            whole.append(now(device) - began)
        divided_step(state, config, next(waiting), timing)
    middle = {name: statistics.median(values) for name, values in times.items()}
    middle["EMA"] /= every  # which is what it costs a step
    step, total = statistics.median(whole), sum(middle.values())
    lines = ["| part | ms | share | GFLOP | at matmul rate, ms | at memory rate, ms |", "|---|---|---|---|---|---|"]
    for name in PARTS:
        flops, traffic = counted[name]
        lines.append(
            f"| {name} | {1e3 * middle[name]:.1f} | {middle[name] / total:.0%} | {flops / 1e9:.1f} "
            f"| {1e3 * flops / rates[0]:.1f} | {1e3 * traffic / rates[1]:.1f} |"
        )
    flops, traffic = (sum(c[i] for c in counted.values()) for i in range(2))
    bounds = f"{1e3 * flops / rates[0]:.1f} | {1e3 * traffic / rates[1]:.1f}"
    lines.append(f"| all | {1e3 * total:.1f} | | {flops / 1e9:.1f} | {bounds} |")
    captions = [c for batch in batches(config, 4, (options.words[0], options.words[1])) for c in batch.captions]
    words = round(float(state.text_encoder.tokens(captions)[1].sum(1).float().mean()))
    wanted = account_for(config, words)
    speed = config.train.batch / step
    lines.append(
        f"| {config.recipe} | {config.data.resolution} | {config.train.batch} | {options.now_parts} | {words} "
        f"| {1e3 * step:.0f} | {speed:.2f} | {wanted / 1e9:.3g} | {speed * wanted / 1e12:.3f} "
        f"| {speed * wanted / rates[0]:.0%} | {peak_gib(device):.1f} |"
    )
    return lines


def account_for(config: Config, words: int) -> int:
    """Training FLOPs per picture by `daybreak plan`, with captions of so many tokens."""
    return account(config, words)[0].training


SUMMARY = [
    "| size | px | batch | parts | tokens | ms a step | images/s | GFLOP an image | TFLOP/s | MFU | peak GiB |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--resolution", help="px, several with commas")
    parser.add_argument("--batch", help="several with commas")
    parser.add_argument(
        "--parts", default="all", help="all, none, or of routing+alignment+lpips+dino; several with commas"
    )
    parser.add_argument("--words", type=int, nargs=2, default=(20, 60), help="least and most words of a caption")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options = parser.parse_args()
    device = pick_device()
    base = SIZES[options.size]()
    base = replace(base, train=replace(base.train, compile=options.compile, precision=options.precision))
    dtype = torch.bfloat16 if lower_precision(base, device) else torch.float32
    rates = matmul_rate(device, dtype), memory_rate(device)
    lines = [
        f"A large matrix product in {str(dtype).split('.')[1]} runs at {rates[0] / 1e12:.3g} TFLOP/s, memory at "
        f"{rates[1] / 1e9:.0f} GB/s. Median of {options.rounds} rounds{', compiled' if options.compile else ''}.",
        "",
    ]
    summary = list(SUMMARY)
    for side, batch, parts in product(_values(options.resolution), _values(options.batch), options.parts.split(",")):
        config = only(base, parts)
        config = replace(
            config,
            data=replace(config.data, resolution=int(side or config.data.resolution)),
            train=replace(config.train, batch=int(batch or config.train.batch)),
        )
        options.now_parts = parts
        *table, row = measure(config, options, device, rates)
        if len(summary) == len(SUMMARY):  # the parts of the first combination alone; the others would be long
            lines += [*table, ""]
        summary.append(row)
    record(f"A training step, size `{options.size}`", lines + summary, device, not options.no_append)


def _values(text: str | None) -> list[str | None]:
    return list(text.split(",")) if text else [None]


if __name__ == "__main__":
    main()
