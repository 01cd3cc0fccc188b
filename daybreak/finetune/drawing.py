"""Pictures drawn with a pipeline: fixed prompts and noise, a chosen sampler."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from daybreak.finetune.settings import FinetuneSettings, Sampler
from daybreak.model_folder import PIPELINE

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


def draw(pipeline: Any, prompts: list[str], settings: FinetuneSettings, side: int, seed: int = 0) -> Tensor:
    """Pictures [len(prompts), 3, side, side] in [-1, 1], on the CPU. Picture i depends on seed, i and its prompt."""
    known = inspect.signature(pipeline.__call__).parameters
    wanted: dict[str, Any] = {
        "num_inference_steps": settings.sample_steps,
        "guidance_scale": settings.guidance,
        "height": side,
        "width": side,
        "use_resolution_binning": False,
    }
    if type(pipeline).__name__ == PIPELINE:  # whose run says how it is sampled
        wanted |= {"num_inference_steps": own_steps(settings), "guidance_scale": own_guidance(settings)}
    options = {k: v for k, v in wanted.items() if k in known}
    own, checker = getattr(pipeline, "scheduler", None), getattr(pipeline, "safety_checker", None)
    pipeline.scheduler = scheduler_for(pipeline, settings.sampler, settings.zero_snr)
    if checker is not None:
        pipeline.safety_checker = None  # a black square would tell nothing of the training
    pictures = []
    try:
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            generators = [torch.Generator().manual_seed(seed * 1_000_003 + start + i) for i in range(len(some))]
            pictures.append(call(pipeline, some, generators, options))
    finally:
        pipeline.scheduler = own
        if checker is not None:
            pipeline.safety_checker = checker
    return torch.cat(pictures)


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
