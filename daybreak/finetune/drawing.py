"""Pictures drawn with a pipeline: fixed prompts and noise, a chosen sampler."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from daybreak.data.shards.buckets import Bucket
from daybreak.finetune.settings import FinetuneSettings, Sampler
from daybreak.model_folder import PIPELINE
from daybreak.phases import advance, counted

AT_ONCE = 8
"""Pictures drawn together."""
ONE_AT_A_TIME = ("PRXPipeline", "PRXPixelPipeline")
"""diffusers 0.42: with guidance their times fit no more than one picture (findings/prx_two_pictures.sh)."""
SCHEDULERS: dict[Sampler, str] = {
    "ddim": "DDIMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def scheduler_for(pipeline: Any, sampler: Sampler, zero_snr: bool = False) -> Any:
    """The sampler with the base's noise schedule; a flow model keeps its own.

    zero_snr: for weights that were trained to begin in pure noise (arXiv 2305.08891); DPM-Solver and UniPC then start
    a hair below it, as diffusers has it.
    """
    import diffusers

    own = getattr(pipeline, "scheduler", None)
    if own is None or "beta_start" not in own.config:  # a pipeline of our own has none
        return own
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_snr else {}
    return getattr(diffusers, SCHEDULERS[sampler]).from_config(pipeline.scheduler.config, **zero)


def own_steps(settings: FinetuneSettings) -> int | None:
    """Of a model of our own: what was asked for, else None, the run's own."""
    return settings.sample_steps if settings.differs("sample_steps") else None


def own_guidance(settings: FinetuneSettings) -> float | None:
    """As `own_steps`."""
    return settings.guidance if settings.differs("guidance") else None


def guidance_of(pipeline: Any, settings: FinetuneSettings) -> float:
    """With which `draw` draws."""
    if type(pipeline).__name__ != PIPELINE:
        return settings.guidance
    asked = own_guidance(settings)
    return float(pipeline.config.guidance) if asked is None else asked


def draw(pipeline: Any, prompts: list[str], settings: FinetuneSettings, side: int, seed: int = 0) -> Tensor:
    """Squares [len(prompts), 3, side, side] in [-1, 1], on the CPU. Picture i depends on seed, i and its prompt."""
    return torch.stack(draw_each(pipeline, prompts, settings, [(side, side)] * len(prompts), seed))


def draw_numbered(
    pipeline: Any, prompts: list[str], settings: FinetuneSettings, side: int, seed: int, numbers: list[int]
) -> Tensor:
    """As `draw`, picture i being number numbers[i]."""
    return torch.stack(draw_each(pipeline, prompts, settings, [(side, side)] * len(prompts), seed, numbers))


def draw_each(
    pipeline: Any, prompts: list[str], settings: FinetuneSettings, shapes: list[Bucket], seed: int = 0,
    numbers: list[int] | None = None,
) -> list[Tensor]:  # fmt: skip
    """As `draw`, each picture [3, H, W] of its own shape (width, height)."""
    named = numbers or list(range(len(prompts)))
    own, checker = getattr(pipeline, "scheduler", None), getattr(pipeline, "safety_checker", None)
    pipeline.scheduler = scheduler_for(pipeline, settings.sampler, settings.zero_snr)
    if checker is not None:
        pipeline.safety_checker = None  # a black square would tell nothing of the training
    pictures: dict[int, Tensor] = {}
    try:
        for some in counted(_of_one_shape(shapes), len(prompts)):
            width, height = shapes[some[0]]
            options = draw_options(pipeline, settings, width, height)
            generators = [torch.Generator().manual_seed(seed * 1_000_003 + named[i]) for i in some]
            pictures |= dict(zip(some, call(pipeline, [prompts[i] for i in some], generators, options), strict=True))
            advance(len(some))
    finally:
        pipeline.scheduler = own
        if checker is not None:
            pipeline.safety_checker = checker
    return [pictures[i] for i in range(len(prompts))]


def draw_options(pipeline: Any, settings: FinetuneSettings, width: int, height: int) -> dict[str, Any]:
    """What a call of the pipeline is told beside prompts and noise, as far as it takes it."""
    wanted: dict[str, Any] = {
        "num_inference_steps": settings.sample_steps,
        "guidance_scale": settings.guidance,
        "height": height,
        "width": width,
        "use_resolution_binning": False,
    }
    if type(pipeline).__name__ == PIPELINE:  # whose run says how it is sampled
        wanted |= {"num_inference_steps": own_steps(settings), "guidance_scale": own_guidance(settings)}
    known = inspect.signature(pipeline.__call__).parameters
    return {k: v for k, v in wanted.items() if k in known}


def _of_one_shape(shapes: list[Bucket]) -> list[list[int]]:
    """Numbers of pictures of one shape each, AT_ONCE together."""
    alike = [[i for i, other in enumerate(shapes) if other == shape] for shape in dict.fromkeys(shapes)]
    return [numbers[i : i + AT_ONCE] for numbers in alike for i in range(0, len(numbers), AT_ONCE)]


def on_one_canvas(pictures: list[Tensor]) -> Tensor:
    """Pictures [3, H, W] of any shapes, each in the middle of white: [N, 3, max H, max W]."""
    height, width = (max(p.shape[i] for p in pictures) for i in (1, 2))
    canvas = torch.ones(len(pictures), 3, height, width)
    for place, picture in zip(canvas, pictures, strict=True):
        top, left = (height - picture.shape[1]) // 2, (width - picture.shape[2]) // 2
        place[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return canvas


def call(pipeline: Any, prompts: list[str], generators: list[torch.Generator], options: dict[str, Any]) -> Tensor:
    """Pictures [len(prompts), 3, H, W] in [-1, 1], on the CPU, of one call of the pipeline with these options."""
    kind = type(pipeline).__name__
    at_once = 1 if kind in ONE_AT_A_TIME else len(prompts)
    found = []
    for i in range(0, len(prompts), at_once):
        part = slice(i, i + at_once)
        drawn = pipeline(prompt=prompts[part], generator=generators[part], output_type="pt", **options).images
        # PRXPixelPipeline's tensors are what was diffused, in [-1, 1] (findings/prx_pixel_tensors.sh); the others'
        # are pictures in [0, 1].
        found.append(drawn.float().cpu().clamp(-1, 1) if kind == "PRXPixelPipeline" else drawn.float().cpu() * 2 - 1)
    return torch.cat(found)
