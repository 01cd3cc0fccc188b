"""Checks what `daybreak evaluate` and `daybreak sample` are asked for. Needs no torch: a mistake is told at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.evaluate.adapter_option import adapters_for, check_adapters
from daybreak.evaluate.geneval.prompts import read_prompts
from daybreak.evaluate.measures import METRICS, check_frechet
from daybreak.evaluate.pictures import open_pictures
from daybreak.evaluate.prompts import read_prompt_file
from daybreak.evaluate.questions import read_questions
from daybreak.evaluate.request import Drawing, Request
from daybreak.model_folder import CONFIG_FILE, check_kind, check_without_data, kind_of, model_folder
from daybreak.run_folder import trained_config

SubjectKind = Literal["run", "model", "pipeline", "pictures", "hub"]
"""model: of ours, but no run (model_folder.py); hub: an id there."""


def find_subject(text: str) -> SubjectKind:
    """What a subject's name stands for, without loading it; ConfigError where it is nothing that can be judged."""
    path = Path(text).expanduser()
    kind = kind_of(path)
    if kind == "run":
        return "run"
    if kind is not None:
        return "model" if kind in ("quantized", "safetensors", "own") else "pipeline"
    if path.is_dir():
        if any(p.suffix.lower() in PICTURE_SUFFIXES for p in path.rglob("*")):
            return "pictures"
        raise ConfigError(
            f"{path} is no run folder: it holds no config.yaml, and neither the model_index.json of a diffusers "
            "pipeline nor pictures"
        )
    if path.exists():
        raise ConfigError(f"{path} is a file; evaluate a run folder, a folder of pictures or a diffusers pipeline")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not path.parent.exists():
        return "hub"
    raise ConfigError(f"{text}: no such run folder, folder of pictures or diffusers pipeline")


def subject_name(text: str) -> str:
    """What a subject is called: the last part of its path, or its id with -- for the slash."""
    path = Path(text).expanduser()
    return path.resolve().name if path.exists() else text.replace("/", "--")


def told(config: Config, drawing: Drawing) -> Config:
    """`config` with what `drawing` says in place of its own settings; ConfigError for a size that it does not draw."""
    given = {"steps": drawing.steps, "guidance": drawing.guidance, "batch": drawing.batch, "expand": drawing.expand}
    for key, value in given.items():
        config = config if value is None else configs.override(config, f"sample.{key}", value)
    if drawing.size is not None and drawing.size % config.model.patch:
        patch = config.model.patch
        near = max(1, drawing.size // patch) * patch
        raise ConfigError(f"--size {drawing.size} does not divide by the run's patches of {patch} px; {near} does")
    return config


def config_of(path: Path, kind: SubjectKind, drawing: Drawing) -> Config | None:
    """How a subject of our own draws; None for others. ConfigError where its config, or what `drawing` says, is wrong.

    kind: as `find_subject` says it.
    """
    if kind == "run":
        return configs.check(told(trained_config(path), drawing))
    if kind == "model":
        return check_without_data(told(configs.load(path / CONFIG_FILE), drawing))
    return None


def check_subject(text: str, request: Request) -> None:
    """ConfigError for what can be known to be wrong with a subject, or what is asked of it, before it is opened."""
    text = str(model_folder(text))
    kind, path = find_subject(text), Path(text).expanduser()
    if kind == "pictures" and (mine := adapters_for(request.drawing.lora, subject_name(text))):
        raise ConfigError(f"--lora {mine[0].path} is for models; {text} is a folder of pictures: name one, NAME=FILE")
    if path.is_dir() and adapters_for(request.drawing.lora, subject_name(text)):
        check_weights(path)
    config = config_of(path, kind, request.drawing)
    check_request(request.of(config, path.resolve().name), kind != "pictures", config)


def check_sample(model: Path, out: Path, drawing: Drawing) -> None:
    """ConfigError for what can be known to be wrong with `daybreak sample` before the model is opened."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the grid is written as PNG, so the name should end in .png")
    kind = check_kind(model)
    check_adapters(drawing.lora, [subject_name(str(model))])
    if drawing.lora:
        check_weights(model)
    ours = kind not in ("finetuned", "pipeline") and (model / CONFIG_FILE).is_file()
    config_of(model, "run" if kind == "run" else "model" if ours else "pipeline", drawing)


def check_weights(model: Path) -> None:
    """ConfigError for a model that can carry no adapter."""
    if kind_of(model) == "quantized":
        raise ConfigError(f"--lora: {model} holds 8-bit weights, which an adapter cannot become part of")


def check_request(request: Request, draws: bool, config: Config | None) -> None:
    """ConfigError for everything that can be known to be missing before hours are spent.

    draws: the subject draws, and is no folder of pictures; config: of a model of our own, which may have been trained
    on pictures, or on `scenes`, and can then draw its own reference.
    """
    on_scenes, trained_on = config is not None and config.data.source == "scenes", request.training_folder(config)
    for name in request.metrics:
        needs, title = METRICS[name].needs, METRICS[name].title
        if needs == "drawing" and not draws:
            raise ConfigError(f"{title} has its own prompts drawn, which a folder of pictures cannot do")
        if needs in ("reference", "baseline", "training") and request.reference is None and not on_scenes:
            raise ConfigError(f"{title} compares with reference pictures: say where they are with --reference FOLDER")
        if needs == "baseline" and request.baseline is None:
            raise ConfigError(f"{title} needs --baseline: the pre-trained model, an earlier run, or its pictures")
        if needs == "questions" and request.questions is None:
            raise ConfigError(f"{title} needs --questions FILE: DPG-Bench's CSV, or one with its columns")
        if needs == "training" and trained_on is None:
            raise ConfigError(f"{title} needs the training pictures: --training FOLDER")
        if name in ("fid", "fd_dinov2", "day_check") and draws:
            check_frechet(name, request.count, "drawn")
    if request.reference is not None:
        open_pictures(request.reference.expanduser(), "--reference")
    if request.prompts is not None and draws:
        read_prompt_file(request.prompts.expanduser())
    if request.questions is not None:
        read_questions(request.questions.expanduser())
    if request.geneval_prompts is not None:
        read_prompts(request.geneval_prompts.expanduser())
    if request.baseline is not None:
        find_subject(request.baseline)
