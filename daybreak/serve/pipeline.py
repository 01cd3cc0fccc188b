"""Any diffusers pipeline that generates from text.

It is one closed loop, so its "step" is the whole sampling: pictures of one shape are generated together, and none joins
on the way.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import adapters_for
from daybreak.extras import require
from daybreak.finetune.adapter_reading import Parts
from daybreak.finetune.drawing import ONE_AT_A_TIME
from daybreak.finetune.loras import parts_of_pipeline
from daybreak.finetune.result import open_pipeline
from daybreak.serve.jobs import Job, Order, Start
from daybreak.serve.models import ModelInfo, Row, ServedModel, expander_of
from daybreak.serve.settings import ServeSettings

log = logging.getLogger("daybreak")
MULTIPLE = 8
"""Divides the sides that latent pipelines generate."""


class PipelineModel(ServedModel):
    """A folder that `DiffusionPipeline.from_pretrained` loads, or a run of daybreak finetune, that generates from text.

    ConfigError otherwise.
    """

    def __init__(self, name: str, folder: Path, settings: ServeSettings, device: torch.device) -> None:
        require("diffusers", "export", f"serving {folder}")
        dtype = torch.bfloat16 if settings.bfloat16 else torch.float32
        pipeline = open_pipeline(str(folder), dtype, adapters_for(settings.lora, name), log.warning)
        self._arguments = inspect.signature(pipeline.__call__).parameters
        if not {"prompt", "num_inference_steps", "height", "width", "generator"} <= set(self._arguments):
            raise ConfigError(f"{folder} holds a {type(pipeline).__name__}, which does not generate pictures from text")
        self._pipeline = pipeline.to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        if settings.compile:
            for part in ("transformer", "unet"):
                if hasattr(pipeline, part):
                    getattr(pipeline, part).compile()
        if type(pipeline).__name__ in ONE_AT_A_TIME:
            self.rows_limit = 1
        size = _default_size(pipeline)
        self.info = ModelInfo(
            name=name,
            size=size,
            multiple=MULTIPLE,
            max_size=settings.max_size or 2 * size,
            steps=min(int(self._default("num_inference_steps", 50)), settings.max_steps),
            guidance=float(self._default("guidance_scale", 1.0)),
            created=int(folder.stat().st_mtime),
            previews=False,
            expand=expander_of(settings, None),
            edits=_edits(pipeline),
        )

    def networks(self) -> Parts:
        """See ServedModel."""
        return parts_of_pipeline(self._pipeline)

    def shape(self, order: Order) -> Hashable:
        """A call of the pipeline has one size, number of steps and guidance, one set of adapters, one way to start."""
        start = None if order.start is None else (order.start.strength, order.start.mask is None)
        return order.height, order.width, order.steps, order.guidance, order.loras, start

    def begin(self, jobs: list[Job]) -> list[Row]:
        """Counts the prompts' tokens."""
        tokenizer = getattr(self._pipeline, "tokenizer", None)
        for job in jobs:
            job.text_tokens = 0 if tokenizer is None else len(tokenizer(job.prompt, truncation=True).input_ids)
        return [Row(job) for job in jobs]

    @torch.inference_mode()
    def advance(self, rows: list[Row]) -> None:
        """Generates all rows from beginning to end; stops in between once no client waits for any of them."""
        orders = [row.job.order for row in rows]
        self.use(orders[0])
        wanted: dict[str, Any] = {
            "prompt": [row.job.prompt for row in rows],
            "negative_prompt": [o.negative_prompt for o in orders],
            "width": orders[0].width,
            "height": orders[0].height,
            "num_inference_steps": orders[0].steps,
            "guidance_scale": orders[0].guidance,
            "generator": [torch.Generator().manual_seed(o.seed) for o in orders],
            "use_resolution_binning": False,
            "output_type": "np",
            "callback_on_step_end": self._after_step(rows),
        }
        starts = [o.start for o in orders if o.start is not None]
        pipeline = self._pipeline if not starts else self._started(starts[0])
        if starts:
            # at least one step of what it is told, and of the size it is told: the picture's
            wanted["strength"] = max(starts[0].strength, 1 / orders[0].steps)
            wanted["image"] = [Image.fromarray(s.pixels) for s in starts]
            wanted["mask_image"] = [None if s.mask is None else Image.fromarray(s.mask) for s in starts]
        arguments = inspect.signature(pipeline.__call__).parameters
        pictures = pipeline(**{k: v for k, v in wanted.items() if k in arguments}).images
        for row, picture in zip(rows, pictures, strict=True):
            row.pixels = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
            if (start := row.job.order.start) is not None and start.mask is not None:
                row.pixels = np.where(
                    start.mask[..., None], row.pixels, start.pixels
                )  # an autoencoder changes them all

    def _started(self, start: Start) -> Any:
        """The pipeline of the same networks that starts from a picture."""
        import diffusers

        kind = "AutoPipelineForImage2Image" if start.mask is None else "AutoPipelineForInpainting"
        pipeline = getattr(diffusers, kind).from_pipe(self._pipeline)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _after_step(self, rows: list[Row]) -> Any:
        def callback(pipeline: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if all(row.job.cancelled or row.job.overdue for row in rows):
                pipeline._interrupt = True  # what diffusers' own documentation tells a callback to do
            return tensors

        return callback

    def _default(self, argument: str, otherwise: float) -> Any:
        parameter = self._arguments.get(argument)
        known = parameter is not None and parameter.default not in (None, inspect.Parameter.empty)
        return parameter.default if parameter is not None and known else otherwise


def _edits(pipeline: Any) -> bool:
    """Whether diffusers has pipelines of its networks that start from a picture, and with a mask."""
    from diffusers.pipelines import auto_pipeline

    tables = (auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING)
    names = auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.items()
    family = next((name for name, kind in names if kind is type(pipeline)), None)
    return family is not None and all(family in table for table in tables)


def _default_size(pipeline: Any) -> int:
    """The side that the pipeline generates when it is told none, px."""
    own = getattr(pipeline.config, "default_sample_size", None)
    if own:
        return int(own)
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    sample: Any = getattr(getattr(network, "config", None), "sample_size", 64)
    side = sample if isinstance(sample, int) else max(sample)
    return side * int(getattr(pipeline, "vae_scale_factor", 8))
