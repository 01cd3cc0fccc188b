"""Time and memory of drawing pictures, against diffusers' PRXPixelPipeline with the same weights.

    python benchmarks/sampling.py                                    # 20 M parameters at 256 px, 8 steps
    python benchmarks/sampling.py --run runs/mine                    # a run's own averaged weights and settings
    python benchmarks/sampling.py --size published --resolution 1024 --batch 4 --steps 28 --precision bfloat16  # a GPU

The weights go through the same code as `daybreak export --to diffusers`; diffusers loads that folder. Both start from
the same noise, and the script states how far the pictures are apart, in [-1, 1], before any time. Without --run the
weights are random: the text encoder is a small T5 of the run's own kind, which both sides run once a picture.
diffusers' pipeline guides one prompt at a time, so at a larger --batch it draws one after the other. On a CPU where
daybreak has another library multiply (daybreak/products.py), diffusers is timed as it comes, and so as well.

`at matmul rate` is how long the matrix products of each side's picture, as torch counts them, take at the rate of one
large product measured in the same run, by the same library: no sampler that does these products can be faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from machine import count, matmul_rate, peak_gib, ratio, record, reset_peak, take_turns
from torch import Tensor
from workload import SIZES, captions

from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.formats.diffusers_folder import differences, write_diffusers
from daybreak.formats.run import load_averaged
from daybreak.model.transformer import Transformer
from daybreak.parallel import pick_device
from daybreak.products import on_onednn
from daybreak.sampling.generate import generate, noise_of

SEED = 7
DIFFUSERS, ALIKE, DAYBREAK = "diffusers", "diffusers, oneDNN's products", "daybreak"
T = TypeVar("T")


def random_model(config: Config) -> tuple[Transformer, TextEncoder]:
    """A model whose every part shows in the picture: layers that start at zero are drawn as well."""
    torch.manual_seed(0)
    text_encoder = TextEncoder.create(captions(500, (3, 20)), config.text)
    transformer = Transformer(config.model, text_encoder.width, config.routing)
    with torch.no_grad():
        for name, tensor in transformer.named_parameters():
            if name.endswith("weight") and float(tensor.abs().max()) == 0:
                tensor.normal_(std=0.02)
    return transformer.eval(), text_encoder.eval()


def open_pipeline(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_with_diffusers(pipeline: Any, prompts: list[str], config: Config, dtype: torch.dtype) -> Tensor:
    """All at once, or one after the other where there is guidance: its pipeline guides one prompt at a time."""
    side, s = config.data.resolution, config.sample
    noise = torch.stack([noise_of(side, side, SEED, i) for i in range(len(prompts))])
    if s.guidance > 1 and len(prompts) > 1:
        return torch.cat([_draw(pipeline, [p], n[None], config, dtype) for p, n in zip(prompts, noise, strict=True)])
    return _draw(pipeline, prompts, noise, config, dtype)


def _draw(pipeline: Any, prompts: list[str], noise: Tensor, config: Config, dtype: torch.dtype) -> Tensor:
    s = config.sample
    made = pipeline(
        prompts, num_inference_steps=s.steps, guidance_scale=s.guidance, output_type="pt", use_resolution_binning=False,
        latents=(noise * config.diffusion.noise_scale).to(pipeline.device, dtype),
    )  # fmt: skip
    return made.images.clamp(-1, 1).float().cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder in place of random weights")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="both sides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options = parser.parse_args()
    device, dtype = pick_device(), getattr(torch, options.precision)
    config = configs.load(options.run / "config.yaml") if options.run else SIZES[options.size]()
    if not options.run:
        text = replace(config.text, pretrained=None, width=384, depth=4, heads=6)
        sample = replace(config.sample, steps=options.steps, guidance=options.guidance, guidance_kind="classifier_free")
        config = replace(config, text=text, sample=sample)
    config = replace(
        config,
        data=replace(config.data, resolution=options.resolution or config.data.resolution),
        sample=replace(config.sample, batch=options.batch),
    )
    if options.run:
        transformer, text_encoder = load_averaged(options.run, config, device)
    else:
        transformer, text_encoder = (network.to(device) for network in random_model(config))
    prompts = captions(options.batch, (8, 20), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        write_diffusers(transformer, text_encoder, config, Path(folder), dtype)
        pipeline = open_pipeline(Path(folder), dtype, device)
    # Both hold their weights in the same precision.
    transformer, text_encoder = transformer.to(dtype), text_encoder.to(dtype)
    if options.compile:
        transformer.compile()
        pipeline.transformer.compile()

    def ours() -> Tensor:
        return generate(transformer, text_encoder, prompts, config, SEED)

    def theirs() -> Tensor:
        return draw_with_diffusers(pipeline, prompts, config, dtype)

    def as_it_comes(work: Callable[[], T]) -> T:
        chosen = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            return work()
        finally:
            torch.set_float32_matmul_precision(chosen)

    contestants = {DIFFUSERS: lambda: as_it_comes(theirs)} | ({ALIKE: theirs} if on_onednn() else {})
    contestants[DAYBREAK] = ours
    rates = dict.fromkeys(contestants, matmul_rate(device, dtype))
    rates[DIFFUSERS] = as_it_comes(lambda: matmul_rate(device, dtype))
    apart = max(float((ours() - draw()).abs().max()) for draw in contestants.values())
    memory = {}
    for name, draw in contestants.items():
        reset_peak(device)
        draw()
        memory[name] = peak_gib(device)
    bound = {name: count(draw)[1] / rates[name] / options.batch for name, draw in contestants.items()}
    times = take_turns(contestants, device, options.rounds)
    lines = [
        f"{config.data.resolution} px, {options.batch} pictures at once, {config.sample.steps} steps, guidance "
        f"{config.sample.guidance:g}, {options.precision}{', both compiled' if options.compile else ''}; "
        f"{options.rounds} rounds in turns. Pictures differ by at most {apart:.1e} in [-1, 1]"
        f"{': ' + '; '.join(differences(config)) if differences(config) else ''}.",
        "",
        "| | s a picture (least..most) | at matmul rate, s | peak memory, GiB |",
        "|---|---|---|---|",
    ]
    for name, values in times.items():
        each = [v / options.batch for v in values]
        lines.append(
            f"| {name} | {statistics.median(each):.3f} ({min(each):.3f}..{max(each):.3f}) | {bound[name]:.3f} "
            f"| {memory[name]:.2f} |"
        )
    lines.append("")
    for name in (DIFFUSERS, ALIKE)[: len(times) - 1]:
        middle, least, most = ratio(times, name, DAYBREAK)
        lines.append(f"**{middle:.2f} x** the speed of {name} (least and most of a round: {least:.2f}..{most:.2f}).")
    if device.type == "cpu":
        lines[-1] += " Memory is the whole process's, both models loaded."
    what = options.run.name if options.run else f"size `{options.size}`"
    record(f"Drawing pictures against diffusers, {what}", lines, device, not options.no_append)


if __name__ == "__main__":
    main()
