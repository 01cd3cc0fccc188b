"""A base of flow matching, drawn step by step as its own pipeline draws: its times, its guidance, its prediction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.diffusion import flow
from daybreak.diffusion.times import sampling_times
from daybreak.finetune.drawing import draw_options
from daybreak.finetune.families import Family
from daybreak.finetune.process import Flow, Process
from daybreak.finetune.settings import FinetuneSettings
from daybreak.sampling.guidance import Denoiser
from daybreak.sampling.sampler import FLOOR


class _TimesKnown(Exception):  # noqa: N818 - no error: the pipeline is left where its times are set
    pass


def own_times(family: Family, settings: FinetuneSettings, side: int, steps: int) -> Tensor:
    """[steps + 1] from 1 to 0: the times that the pipeline's own scheduler visits in `steps` steps for a picture of
    `side` px, which shift them as the base has it.

    Each pipeline works them out in its own call, which is begun and left there. ConfigError for a sampler that is not
    Euler's along a flow.
    """
    scheduler = getattr(family.pipeline, "scheduler", None)
    if scheduler is None:  # of a model of our own
        return sampling_times(steps, float(family.pipeline.config.shift))
    config = scheduler.config
    kind = type(scheduler).__name__
    if kind != "FlowMatchEulerDiscreteScheduler" or config.get("stochastic_sampling"):
        raise ConfigError(f"{settings.base} draws with {kind}; Euler's steps along a flow are known")
    set_them = scheduler.set_timesteps

    @functools.wraps(set_them)  # pipelines look at what it takes
    def set_and_leave(*given: Any, **named: Any) -> None:
        set_them(*given, **named)
        raise _TimesKnown

    scheduler.set_timesteps = set_and_leave
    try:
        options = draw_options(family.pipeline, settings, side, side) | {"num_inference_steps": steps}
        family.pipeline(prompt=[""], output_type="latent", **options)
    except _TimesKnown:
        return scheduler.sigmas.detach().float().cpu().clone()
    finally:
        del scheduler.set_timesteps
    raise ConfigError(f"{settings.base}: its pipeline sets no times")


def flow_denoisers(family: Family, process: Process, guidance: float) -> Callable[[Sequence[str]], Denoiser]:
    """Captions to a denoiser of as many pictures, whose velocity is the pipeline's own, guided as that guides where it
    is told `guidance`. Captions are read without a gradient."""
    assert isinstance(process, Flow)
    predicts, scale, (low, high) = process.predicts, family.lead(guidance), family.guided_between

    def of(captions: Sequence[str]) -> Denoiser:
        different = list(dict.fromkeys(captions))
        rows = torch.tensor([different.index(caption) for caption in captions])
        with torch.no_grad():
            read = family.text([*different, ""])
        text = {k: v[rows.to(v.device)] for k, v in read.items()}
        empty = {k: v[-1:].expand_as(text[k]) for k, v in read.items()}

        def predict(x: Tensor, t: Tensor, *texts: dict[str, Tensor]) -> Tensor:
            both = {k: torch.cat([some[k] for some in texts]).to(x.device) for k in text}
            both["guidance"] = torch.full((len(x),), guidance, device=x.device)
            return family.predict(family.network, x, t, both).float()

        def guided(x: Tensor, t: Tensor) -> Tensor:
            if scale == 1 or not low <= float(t[0]) <= high:
                return predict(x, t, text)
            told, untold = predict(torch.cat([x, x]), torch.cat([t, t]), text, empty).chunk(2)
            return untold + scale * (told - untold)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            output = guided(x, t)
            v = flow.velocity(x, output, t, family.floor) if predicts == "x0" else output
            return flow.to_x0(x, v, t, FLOOR)  # of which a sampler's step makes v again

        return denoise

    return of
