"""The configuration of a run: frozen dataclasses, overrides by name, YAML in and out.

Every field states its unit and range. A recipe (daybreak/recipes) is a function that returns a `Config`; an override is
`section.field=value`, from the command line or a YAML file; the run folder holds the resolved result.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml


class ConfigError(ValueError):
    """A user's setting is wrong; the message is one line that names it and says what would be right."""


@dataclass(frozen=True)
class DataConfig:
    """Where pictures and captions come from."""

    source: Literal["scenes", "folder", "shards"] = "scenes"
    """`scenes`: the embedded world. `folder`: captioned pictures on disk. `shards`: what `daybreak prepare` made."""
    folder: str | None = None
    """Folder of captioned pictures, for source `folder`."""
    shards: tuple[str, ...] = ()
    """Folders or addresses of prepared sets, for source `shards`."""
    weights: tuple[float, ...] = ()
    """Shares of the sets of `shards` in training; none: in the ratio of their sizes."""
    max_ratio: float = 2.0
    """Widest training pictures, width over height (source `shards`); 1 crops to squares."""
    bad_share: float = 0.01
    """The run stops once more than this share of all rows is damaged (source `shards`)."""
    cache: str | None = None
    """Local folder in which remote shards are kept while they are used."""
    cache_gb: float = 100.0
    """The most that the cache holds, GB."""
    resolution: int = 32
    """Side of the square training pictures, px."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour behind transparent pictures, sRGB 0..255."""
    flip: bool = False
    """Mirror half of the pictures left to right (not for `scenes`). Wrong where captions speak of left and right."""
    workers: int = 1
    """Threads that prepare batches ahead of the training loop; 0: none."""
    task_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Shares of the six tasks (source `scenes`), in the order of daybreak.data.scenes.world.TASKS."""


@dataclass(frozen=True)
class TextConfig:
    """The embedded text encoder, trained with the model."""

    vocabulary: int = 512
    """Most entries of the BPE tokenizer; at least 259 (all bytes and three special tokens)."""
    width: int = 128
    depth: int = 2
    heads: int = 4
    max_tokens: int = 64
    """Longer captions are cut here."""


@dataclass(frozen=True)
class ModelConfig:
    """The pixel transformer."""

    width: int = 128
    depth: int = 5
    heads: int = 4
    mlp_ratio: float = 3.5
    """Hidden width of the gated MLP over `width`."""
    patch: int = 4
    """Side of a patch, px."""
    bottleneck: int | None = None
    """Width between the two linear layers of the patch embedding; none: one layer."""
    rope_theta: float = 10_000.0
    size_conditioning: bool = False
    """Add the picture's height and width to the time embedding."""


@dataclass(frozen=True)
class DiffusionConfig:
    """Noise levels and the loss's weighting."""

    shift: float = 3.0
    """Moves training and sampling times towards noise; 1 leaves them."""
    floor: float = 0.05
    """Least divisor in v = (x_t - x0) / max(t, floor) of the training loss."""
    noise_scale: float = 1.0
    """Standard deviation of the noise at t = 1."""
    p_uncond: float = 0.1
    """Share of captions dropped in training, for classifier-free guidance."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule."""

    muon_lr: float = 0.005
    """Learning rate of the blocks' matrices (update matched to AdamW's size)."""
    muon_momentum: float = 0.95
    adam_lr: float = 0.002
    """Learning rate of everything else."""
    adam_betas: tuple[float, float] = (0.9, 0.95)
    adam_eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 50
    decay_share: float = 0.4
    """Last share of the budget over which the learning rate falls linearly to zero."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this total norm."""


@dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    batch: int = 48
    """Pictures a step."""
    steps: int | None = None
    """Ends the run after so many steps."""
    minutes: float | None = None
    """Ends the run after so many minutes of training; sampling and scoring are not counted."""
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the forward and backward pass; weights stay float32. auto: bfloat16 where the hardware multiplies it."""
    ema: float = 0.999
    """Decay of the averaged weights, per step; what sampling and scoring use."""
    save_minutes: float = 5.0
    """Time between checkpoints, minutes."""
    sample_every: float = 0.125
    """Share of the budget between sample grids."""


@dataclass(frozen=True)
class SampleConfig:
    """How pictures are drawn."""

    sampler: Literal["euler", "heun"] = "euler"
    steps: int = 24
    guidance: float = 3.0
    """Scale of classifier-free guidance; 1 is none."""
    guidance_from: float = 0.0
    guidance_to: float = 1.0
    """Guidance acts for t in guidance_from..guidance_to (1 is noise)."""
    batch: int = 64
    """Pictures drawn at once."""


@dataclass(frozen=True)
class EvaluateConfig:
    """How a run is scored."""

    prompts_per_task: int = 48
    """Prompts of each of the six tasks of `scenes`."""
    held_out_prompts: int = 96
    """Prompts that ask for combinations which training never shows."""
    seed: int = 1234
    """Of prompts and noise."""
    grid_prompts: tuple[str, ...] = ()
    """Prompts of the sample grids; empty: chosen from the data."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    recipe: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


def override(config: Config, key: str, value: Any) -> Config:
    """`config` with the field `key` ("section.field") replaced.

    `value` is a string as typed on a command line, or a value as YAML gives it. Raises ConfigError for an unknown key
    (naming the nearest one) and for a value of the wrong kind.
    """
    section_name, _, field_name = key.partition(".")
    check_name(key)
    if not field_name:
        return dataclasses.replace(config, **{key: _convert(value, str, key)})
    section = getattr(config, section_name)
    kind = typing.get_type_hints(type(section))[field_name]
    section = dataclasses.replace(section, **{field_name: _convert(value, kind, key)})
    return dataclasses.replace(config, **{section_name: section})


def check_name(key: str) -> None:
    """Raises ConfigError, with the nearest name, where no setting is called `key`."""
    known = field_names()
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; the sections are {', '.join(_sections())}"
        raise ConfigError(f"unknown setting {key}{hint}")


def field_names() -> list[str]:
    """Every setting, as "section.field"."""
    names = ["recipe"]
    for section, kind in _sections().items():
        names += [f"{section}.{f.name}" for f in dataclasses.fields(kind)]
    return names


def documented_fields(config: Config) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """[(section, [(field, value, meaning)])]: the meanings are the docstrings below the fields in this file."""
    result = []
    for section, kind in _sections().items():
        values = getattr(config, section)
        (tree,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(tree, ast.ClassDef)
        meanings: dict[str, str] = {}
        for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = following.value if isinstance(following, ast.Expr) else None
                meaning = text.value if isinstance(text, ast.Constant) else ""
                meanings[statement.target.id] = " ".join(str(meaning).split())
        result.append((section, [(n, _shown(getattr(values, n)), m) for n, m in meanings.items()]))
    return result


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(v) for v in value) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def load(path: Path, base: Config | None = None) -> Config:
    """The config of a YAML file: `base` (default: all defaults) with the file's sections over it.

    Raises ConfigError where the file is missing, is not YAML, or holds an unknown key or a wrong value.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"no such config file: {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        raise ConfigError(f"{path} is not readable as YAML: {' '.join(str(e).split())}") from None
    config = base or Config()
    if raw is None:
        return config
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} should hold sections such as 'train:', not a {type(raw).__name__}")
    for section, fields in raw.items():
        if section == "recipe":
            config = override(config, "recipe", fields)
        elif not isinstance(fields, dict):
            raise ConfigError(f"{path}: '{section}' should be a section with fields below it")
        else:
            for name, value in fields.items():
                config = override(config, f"{section}.{name}", value)
    return config


def save(config: Config, path: Path) -> None:
    """Writes `config` as YAML, every field in it."""
    plain = dataclasses.asdict(config)
    for section, fields in plain.items():
        if isinstance(fields, dict):
            plain[section] = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
    # Escapes, since YAML reads some raw Unicode, such as the line separators, as plain line ends.
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=False))


def check(config: Config) -> Config:
    """The same config, or a ConfigError that names the first setting out of its range."""
    c = config
    at_least = [
        ("data.resolution", c.data.resolution, 8),
        ("data.workers", c.data.workers, 0),
        ("text.vocabulary", c.text.vocabulary, 259),
        ("text.width", c.text.width, 1),
        ("text.depth", c.text.depth, 1),
        ("text.heads", c.text.heads, 1),
        ("text.max_tokens", c.text.max_tokens, 2),
        ("model.width", c.model.width, 4),
        ("model.depth", c.model.depth, 1),
        ("model.heads", c.model.heads, 1),
        ("model.patch", c.model.patch, 1),
        ("train.batch", c.train.batch, 1),
        ("train.seed", c.train.seed, 0),
        ("optim.warmup_steps", c.optim.warmup_steps, 0),
        ("sample.steps", c.sample.steps, 1),
        ("sample.batch", c.sample.batch, 1),
        ("evaluate.prompts_per_task", c.evaluate.prompts_per_task, 1),
        ("evaluate.held_out_prompts", c.evaluate.held_out_prompts, 1),
    ]
    for name, value, least in at_least:
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}")
    above_zero = [
        ("diffusion.shift", c.diffusion.shift),
        ("diffusion.floor", c.diffusion.floor),
        ("diffusion.noise_scale", c.diffusion.noise_scale),
        ("model.mlp_ratio", c.model.mlp_ratio),
        ("optim.muon_lr", c.optim.muon_lr),
        ("optim.adam_lr", c.optim.adam_lr),
        ("optim.clip_norm", c.optim.clip_norm),
        ("train.save_minutes", c.train.save_minutes),
    ]
    for name, number in above_zero:
        if not number > 0:
            raise ConfigError(f"{name} is {number:g}; it must be above 0")
    shares = [
        ("diffusion.p_uncond", c.diffusion.p_uncond),
        ("optim.decay_share", c.optim.decay_share),
        ("train.ema", c.train.ema),
        ("sample.guidance_from", c.sample.guidance_from),
        ("sample.guidance_to", c.sample.guidance_to),
    ]
    for name, number in shares:
        if not 0 <= number <= 1:
            raise ConfigError(f"{name} is {number:g}; it must lie between 0 and 1")
    if not 0 < c.train.sample_every <= 1:
        raise ConfigError(f"train.sample_every is {c.train.sample_every:g}; it must be above 0 and at most 1")
    if not 0 <= c.data.bad_share < 1:
        raise ConfigError(f"data.bad_share is {c.data.bad_share:g}; it must be at least 0 and below 1")
    if not c.data.max_ratio >= 1:
        raise ConfigError(f"data.max_ratio is {c.data.max_ratio:g}; it is width over height and at least 1")
    if c.data.weights and (len(c.data.weights) != len(c.data.shards) or not min(c.data.weights) > 0):
        raise ConfigError(f"data.weights needs one share above 0 for each of the {len(c.data.shards)} sets of shards")
    if len(c.data.task_weights) != 6 or min(c.data.task_weights) < 0 or sum(c.data.task_weights) <= 0:
        raise ConfigError("data.task_weights needs six shares, none negative and not all zero")
    if c.data.resolution % c.model.patch:
        near = max(1, round(c.data.resolution / c.model.patch)) * c.model.patch
        raise ConfigError(
            f"data.resolution {c.data.resolution} does not divide into patches of model.patch {c.model.patch} px; "
            f"{near} would"
        )
    if c.model.width % c.model.heads or (c.model.width // c.model.heads) % 4:
        raise ConfigError(
            f"model.width {c.model.width} over model.heads {c.model.heads} must give heads of a multiple of 4 channels"
        )
    if c.text.width % c.text.heads:
        raise ConfigError(f"text.width {c.text.width} does not divide by text.heads {c.text.heads}")
    if c.train.steps is None and c.train.minutes is None:
        raise ConfigError("the run has no end: set train.steps or train.minutes")
    for name, budget in (("train.steps", c.train.steps), ("train.minutes", c.train.minutes)):
        if budget is not None and not budget > 0:
            raise ConfigError(f"{name} is {budget:g}; it must be above 0")
    if c.data.source == "folder" and not c.data.folder:
        raise ConfigError("this recipe trains on your own pictures: say where they are with --data FOLDER")
    if c.data.source == "shards" and not c.data.shards:
        raise ConfigError("data.source is shards, and data.shards names none: say where they are with --data SHARDS")
    return config


def _sections() -> dict[str, type]:
    return {name: kind for name, kind in typing.get_type_hints(Config).items() if kind is not str}


def _convert(value: Any, kind: Any, key: str) -> Any:
    """`value` as a `kind`, which is one of the annotations used above; ConfigError where it can't be."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None or value in ("none", "None", "null"):
            return None
        return _convert(value, next(a for a in args if a is not type(None)), key)
    if origin is Literal:
        if value not in args:
            near = difflib.get_close_matches(str(value), args, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{key} is {value!r}; it must be one of {', '.join(args)}{hint}")
        return value
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ConfigError(f"{key} is {value!r}; it must be a list such as 1,2,3")
        inner = args[0]
        if Ellipsis not in args and len(items) != len(args):
            raise ConfigError(f"{key} needs {len(args)} values, got {len(items)}")
        return tuple(_convert(item, inner, key) for item in items)
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise ConfigError(f"{key} is {value!r}; it must be true or false")
        return words[str(value).lower()]
    if kind is str:
        return str(value)
    try:
        number = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    wanted = "a whole number" if kind is int else "a number"
    if number is None or number != number or number in (float("inf"), float("-inf")):
        raise ConfigError(f"{key} is {value!r}; it must be {wanted}")
    if kind is int:
        if number != int(number):
            raise ConfigError(f"{key} is {value!r}; it must be {wanted}")
        return int(number)
    return number
