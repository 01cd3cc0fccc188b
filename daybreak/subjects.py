"""Opens what is judged, or drawn with: a model of ours, a diffusers pipeline, or a folder of pictures."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.adapter_option import AdapterFile, adapters_for
from daybreak.evaluate.checks import find_subject, subject_name, told
from daybreak.evaluate.pictures import open_pictures
from daybreak.evaluate.request import Drawing
from daybreak.evaluate.subjects import RunDrawer, Subject
from daybreak.finetune.drawing import AT_ONCE, call
from daybreak.finetune.loras import add_to_own
from daybreak.finetune.result import drawing_of, open_pipeline
from daybreak.formats.open import open_model
from daybreak.model.transformer import Transformer
from daybreak.model_folder import check_without_data, model_folder
from daybreak.sampling.expand import expanded

SEED = 1234
log = logging.getLogger("daybreak")


def open_subject(text: str, drawing: Drawing, device: torch.device) -> Subject:
    """A run folder, a folder that holds a diffusers pipeline or pictures, or a pipeline's id on the Hugging Face hub.

    Adapters of `drawing` are made part of its weights. Raises ConfigError where it is none of them or can't be loaded.
    """
    text = str(model_folder(text))
    kind, path = find_subject(text), Path(text).expanduser()
    loras = adapters_for(drawing.lora, subject_name(text))
    if kind == "run":
        transformer, text_encoder, config = open_model(path, device)
        config = configs.check(told(config, drawing))
        return replace(_ours(path, transformer, text_encoder, config, drawing, loras), run=path)
    if kind == "pictures":
        pictures = open_pictures(path, "evaluate")
        return Subject(path.resolve().name, {"pictures": f"{len(pictures):,} in {path}"}, pictures=pictures)
    if kind == "hub":
        return _pipeline(text, subject_name(text), drawing, device, loras)
    if kind == "model":  # of an export that brings its code: drawn with our own code, not with the folder's
        transformer, text_encoder, config = open_model(path, device)
        return _ours(path, transformer, text_encoder, check_without_data(told(config, drawing)), drawing, loras)
    return _pipeline(str(path), subject_name(text), drawing, device, loras)


def _ours(
    path: Path, transformer: Transformer, text_encoder: TextEncoder, config: Config, drawing: Drawing,
    loras: Sequence[AdapterFile],
) -> Subject:  # fmt: skip
    add_to_own(transformer, text_encoder, loras, log.warning)
    seed = config.evaluate.seed if drawing.seed is None else drawing.seed
    parameters = sum(p.numel() for m in (transformer, text_encoder) for p in m.parameters())
    facts = {
        "run": str(path),
        "recipe": config.recipe,
        "trained on": config.data.folder or config.data.source,
        "parameters": f"{parameters / 1e6:,.1f} M",
        "drawn at": f"{drawing.size or config.data.resolution} px, {config.sample.sampler}, {config.sample.steps} "
        f"steps, guidance {config.sample.guidance:g}, seed {seed}",
        "prompts written out by": config.sample.expand or "none",
    } | _facts(loras)
    drawer = RunDrawer(transformer, text_encoder, config, seed, drawing.size)
    return Subject(path.resolve().name, facts, drawer, config=config)


def _facts(loras: Sequence[AdapterFile]) -> dict[str, str]:
    return {"adapters": ", ".join(map(str, loras))} if loras else {}


def _pipeline(
    source: str, name: str, drawing: Drawing, device: torch.device, loras: Sequence[AdapterFile]
) -> Subject:  # fmt: skip
    try:
        import diffusers  # noqa: F401
    except ImportError:
        raise ConfigError("evaluating a diffusers pipeline needs diffusers: pip install daybreak[export]") from None
    drawing = drawing_of(source, drawing)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    pipeline = open_pipeline(source, dtype, loras, log.warning).to(device)
    pipeline.set_progress_bar_config(disable=True)
    known = set(inspect.signature(pipeline.__call__).parameters)
    if "prompt" not in known:
        raise ConfigError(f"{source} is a {type(pipeline).__name__}, which draws nothing from a prompt")
    given = {
        "num_inference_steps": drawing.steps,
        "guidance_scale": drawing.guidance,
        "height": drawing.size,
        "width": drawing.size,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if unknown := sorted(set(options) - known):
        raise ConfigError(f"{source} is a {type(pipeline).__name__}, which does not take {', '.join(unknown)}")
    if "use_resolution_binning" in known:  # would draw at another size and scale the pictures
        options["use_resolution_binning"] = False

    seed = SEED if drawing.seed is None else drawing.seed
    expand = None if drawing.expand == "none" else drawing.expand

    class PipelineDrawer:
        batch = drawing.batch or 8
        plain = None

        def draw(self, prompts: list[str], first: int) -> Tensor:
            seeds = [seed * 1_000_003 + first + i for i in range(len(prompts))]
            generators = [torch.Generator().manual_seed(s) for s in seeds]
            prompts = expanded(prompts, expand, seed, range(first, first + len(prompts)))
            try:
                return call(pipeline, prompts, generators, options)
            except ValueError as e:
                if drawing.size is None:
                    raise
                raise ConfigError(f"--size {drawing.size} cannot be drawn by {source}: {e}") from None

    parts = [m for m in pipeline.components.values() if isinstance(m, torch.nn.Module)]
    facts = {
        "pipeline": f"{type(pipeline).__name__} {source}",
        "parameters": f"{sum(p.numel() for m in parts for p in m.parameters()) / 1e6:,.1f} M",
        "drawn with": ", ".join(f"{k} {v}" for k, v in ({"seed": seed} | options).items()),
        "prompts written out by": expand or "none",
    } | _facts(loras)
    return Subject(name, facts, PipelineDrawer())


def sample_pipeline(folder: Path, prompts: list[str], drawing: Drawing, device: torch.device) -> Tensor:
    """What `daybreak sample` draws with a pipeline or a run of daybreak finetune; prompts: as they are drawn."""
    drawer = open_subject(str(folder), replace(drawing, expand="none"), device).drawer
    assert drawer is not None
    parts = [drawer.draw(prompts[i : i + AT_ONCE], i) for i in range(0, len(prompts), AT_ONCE)]
    return torch.cat(parts)
