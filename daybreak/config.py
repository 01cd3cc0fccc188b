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
    """The text encoder: the embedded one, trained with the model, or a frozen pretrained one."""

    vocabulary: int = 512
    """Most entries of the BPE tokenizer; at least 259 (all bytes and three special tokens)."""
    width: int = 128
    depth: int = 2
    heads: int = 4
    max_tokens: int = 64
    """Longer captions are cut here."""
    pretrained: str | None = None
    """Hub id or folder of a frozen encoder (T5, T5Gemma, CLIP, Gemma 3, Qwen3) in place of the embedded one."""
    revision: str | None = None
    """Revision of `pretrained` on the hub; none: the newest."""


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
    predicts: Literal["x0", "velocity"] = "x0"
    """What the network's output stands for."""
    modulation: Literal["block", "shared", "none"] = "block"
    """How blocks learn of the time: a modulation each, one for all with a bias each, or not at all."""
    layout: Literal["text_kv", "joint"] = "text_kv"
    """text_kv: text as keys and values only. joint: two streams that attend to each other (MiniT2I's)."""
    text_blocks: int = 0
    """Trained transformer blocks on the text alone, ahead of the others."""
    recompute: bool = False
    """Recompute each block in the backward pass: less memory, a third more work."""


@dataclass(frozen=True)
class RoutingConfig:
    """Image tokens that skip the middle blocks in training (TREAD, SPRINT)."""

    keep: float = 1.0
    """Share of the image tokens that stay; 1: no routing."""
    start: int = 2
    """Blocks that see all tokens at first."""
    end: int | None = None
    """Blocks after which the tokens return; none: before the last one."""
    method: Literal["tread", "sprint"] = "tread"
    """tread: the others return as they left. sprint: they return as a learned token, fused with how they left."""
    path_drop: float = 0.0
    """sprint: share of the pictures whose middle blocks are left out whole, which guidance then subtracts."""


@dataclass(frozen=True)
class AlignmentConfig:
    """Features of a middle block drawn to those of a vision teacher (REPA)."""

    weight: float = 0.0
    """0: none."""
    teacher: str = "embedded"
    """`embedded` (of this package, knows scenes), or a hub id or folder (DINOv2, DINOv3, SigLIP)."""
    layer: int = 8
    """Features are taken after so many blocks."""
    projector: Literal["mlp", "conv"] = "mlp"
    """mlp: REPA's, on each token. conv: iREPA's 3 x 3 convolution; it needs all tokens."""
    projector_width: int = 2048
    """Hidden width of the mlp projector."""
    until: float = 1.0
    """Share of the run after which alignment ends."""
    resolution: int | None = None
    """Side at which the teacher sees the picture, px; none: the side that gives it the model's grid."""


@dataclass(frozen=True)
class PerceptualConfig:
    """Losses between the predicted and the true picture in the features of frozen networks."""

    lpips: float = 0.0
    """Weight of LPIPS; 0: none."""
    lpips_network: str = "embedded"
    """`embedded` (LPIPS's form on this package's teacher), or the file of torchvision's VGG16 weights."""
    lpips_heads: str | None = None
    """File of LPIPS's published 1 x 1 heads for VGG; needed with a VGG file."""
    lpips_scale: float = 0.5
    """Both pictures are scaled by this before LPIPS."""
    dino: float = 0.0
    """Weight of 1 - cosine between patch features; 0: none."""
    dino_teacher: str = "embedded"
    """As alignment.teacher."""
    dino_resolution: int | None = None
    """Side at which the teacher sees both pictures, px; none: that of the training pictures, to whole patches."""
    t_max: float = 1.0
    """Only pictures with a noise level up to this take part."""


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
    logit_mean: float = 0.0
    logit_std: float = 1.0
    """Training times are logit-normal with this mean and deviation, before the shift."""
    contrastive: float = 0.0
    """Weight by which velocities are pushed from those of other pictures (contrastive flow matching); 0: none."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule."""

    matrices: Literal["muon", "normuon", "adamw"] = "muon"
    """Optimiser of the blocks' matrices. normuon: Muon with rows of equal size."""
    orthogonalization: Literal["quintic", "polar_express"] = "quintic"
    """Muon's polynomials: one quintic five times, or Polar Express's sequence."""
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
    """Decay of the averaged weights at each update; what sampling and scoring use. 0: the trained weights."""
    ema_every: int = 1
    """Steps between updates of the average."""
    posthoc_ema: tuple[float, ...] = ()
    """Relative lengths of power-function averages to keep, such as 0.05,0.1, for `daybreak average` afterwards."""
    posthoc_snapshots: int = 16
    """Snapshots of each over the run."""
    compile: bool = False
    """Compile the transformer and the frozen networks (torch.compile); pays on a GPU."""
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
    """Scale of guidance; 1 is none."""
    guidance_kind: Literal["classifier_free", "routed", "both"] = "classifier_free"
    """Against the empty caption, against the routed prediction (needs routing), or against both at once."""
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
    metrics: tuple[str, ...] = ()
    """Measured during training, named as for `daybreak evaluate --metrics`; empty: none."""
    metrics_every: int = 1_000_000
    """Pictures seen between two measurements."""
    metrics_count: int = 1000
    """Pictures drawn for a measurement."""
    reference: str | None = None
    """Folder of real pictures that the metrics compare with; a run on `scenes` draws its own."""
    weights: tuple[str, ...] = ()
    """NAME=FILE, FOLDER or hub id of the metrics' networks, in place of a download."""


@dataclass(frozen=True)
class StageConfig:
    """A part of the run; what is none stays as the run has it."""

    share: float = 1.0
    """Share of the budget (of train.minutes, or of train.steps); the shares of all stages add up to 1."""
    resolution: int | None = None
    """In place of data.resolution, px."""
    batch: int | None = None
    """In place of train.batch."""
    shift: float | None = None
    """In place of diffusion.shift."""
    keep: float | None = None
    """In place of routing.keep."""
    alignment: float | None = None
    """In place of alignment.weight."""
    lpips: float | None = None
    """In place of perceptual.lpips."""
    dino: float | None = None
    """In place of perceptual.dino."""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    recipe: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    stages: tuple[StageConfig, ...] = ()
    """Parts of the run in their order; empty: one part."""


def override(config: Config, key: str, value: Any) -> Config:
    """`config` with the field `key` ("section.field") replaced.

    `value` is a string as typed on a command line, or a value as YAML gives it. Raises ConfigError for an unknown key
    (naming the nearest one) and for a value of the wrong kind.
    """
    section_name, _, field_name = key.partition(".")
    check_name(key, len(config.stages))
    if section_name == "stages":
        return _override_stage(config, field_name, value)
    if not field_name:
        return dataclasses.replace(config, **{key: _convert(value, str, key)})
    section = getattr(config, section_name)
    kind = typing.get_type_hints(type(section))[field_name]
    section = dataclasses.replace(section, **{field_name: _convert(value, kind, key)})
    return dataclasses.replace(config, **{section_name: section})


def _override_stage(config: Config, number_and_field: str, value: Any) -> Config:
    """`config` with a field of one stage ("0.resolution") replaced."""
    number, _, name = number_and_field.partition(".")
    kind = typing.get_type_hints(StageConfig)[name]
    stages = list(config.stages)
    new = _convert(value, kind, f"stages.{number_and_field}")
    stages[int(number)] = dataclasses.replace(stages[int(number)], **{name: new})
    return dataclasses.replace(config, stages=tuple(stages))


def at_stage(config: Config, index: int) -> Config:
    """The settings that hold in stage `index` (negative: from the end): a config whose stages are applied already."""
    if not config.stages:
        return config
    s = config.stages[index]
    changes = {
        "data.resolution": s.resolution,
        "train.batch": s.batch,
        "diffusion.shift": s.shift,
        "routing.keep": s.keep,
        "alignment.weight": s.alignment,
        "perceptual.lpips": s.lpips,
        "perceptual.dino": s.dino,
    }
    config = dataclasses.replace(config, stages=())
    for key, value in changes.items():
        if value is not None:
            config = override(config, key, value)
    return config


def stage_at(config: Config, progress: float) -> int:
    """Index of the stage that the run is in when the share `progress` of its budget is used."""
    end = 0.0
    for index, stage in enumerate(config.stages):
        end += stage.share
        if progress < end - 1e-9:
            return index
    return max(0, len(config.stages) - 1)


def check_name(key: str, stages: int = 0) -> None:
    """Raises ConfigError, with the nearest name, where no setting is called `key`; `stages`: how many there are."""
    known = field_names(stages)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; the sections are {', '.join(_sections())}"
        raise ConfigError(f"unknown setting {key}{hint}")


def field_names(stages: int = 0) -> list[str]:
    """Every setting, as "section.field", and "stages.0.field" for each of so many stages."""
    names = ["recipe"]
    for section, kind in _sections().items():
        names += [f"{section}.{f.name}" for f in dataclasses.fields(kind)]
    for stage in range(stages):
        names += [f"stages.{stage}.{f.name}" for f in dataclasses.fields(StageConfig)]
    return names


def documented_fields(config: Config) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """[(section, [(field, value, meaning)])]: the meanings are the docstrings below the fields in this file."""
    result = []
    parts = [(section, kind, getattr(config, section)) for section, kind in _sections().items()]
    parts += [(f"stages.{i}", StageConfig, stage) for i, stage in enumerate(config.stages)]
    for section, kind, values in parts:
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
        elif section == "stages":
            config = _load_stages(config, fields, path)
        elif not isinstance(fields, dict):
            raise ConfigError(f"{path}: '{section}' should be a section with fields below it")
        else:
            for name, value in fields.items():
                config = override(config, f"{section}.{name}", value)
    return config


def _load_stages(config: Config, raw: Any, path: Path) -> Config:
    """The stages of a YAML file: a list of sections, in place of the config's own."""
    if not isinstance(raw, list) or not all(isinstance(item, dict) for item in raw):
        raise ConfigError(f"{path}: 'stages' should be a list of sections with fields such as share and resolution")
    config = dataclasses.replace(config, stages=(StageConfig(),) * len(raw))
    for i, fields in enumerate(raw):
        for name, value in fields.items():
            config = override(config, f"stages.{i}.{name}", value)
    return config


def save(config: Config, path: Path) -> None:
    """Writes `config` as YAML, every field in it."""
    plain = dataclasses.asdict(config)
    plain["stages"] = list(plain["stages"])
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
        ("evaluate.metrics_every", c.evaluate.metrics_every, 1),
        ("evaluate.metrics_count", c.evaluate.metrics_count, 2),
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
    _check_parts(c)
    if c.stages:
        total = sum(s.share for s in c.stages)
        if min(s.share for s in c.stages) <= 0 or abs(total - 1) > 1e-3:
            raise ConfigError(f"the shares of the stages add up to {total:g}; each must be above 0, all together 1")
        for i in range(len(c.stages)):
            try:
                check(at_stage(c, i))
            except ConfigError as e:
                raise ConfigError(f"stage {i}: {e}") from None
    return config


def _check_parts(c: Config) -> None:
    """Refuses what does not go together among routing, alignment, perceptual losses and the network's form."""
    r, a, p, m = c.routing, c.alignment, c.perceptual, c.model
    end = m.depth - 1 if r.end is None else r.end
    if not 0 < r.keep <= 1:
        raise ConfigError(f"routing.keep is {r.keep:g}; it must be above 0 and at most 1")
    if not 0 <= r.path_drop <= 1:
        raise ConfigError(f"routing.path_drop is {r.path_drop:g}; it must lie between 0 and 1")
    if r.path_drop and r.method != "sprint":
        raise ConfigError("routing.path_drop is SPRINT's: set routing.method=sprint, or routing.path_drop=0")
    if (r.keep < 1 or r.method == "sprint") and not 0 <= r.start < end <= m.depth:
        raise ConfigError(
            f"tokens leave after routing.start {r.start} blocks and return after routing.end {end}, of "
            f"model.depth {m.depth}: the start must come before the end, and the end not after the last block"
        )
    if c.sample.guidance_kind != "classifier_free" and r.keep == 1:
        raise ConfigError(f"sample.guidance_kind={c.sample.guidance_kind} compares with a routed prediction: set "
                          "routing.keep below 1, or guidance_kind=classifier_free")  # fmt: skip
    for name, weight in (("alignment.weight", a.weight), ("perceptual.lpips", p.lpips), ("perceptual.dino", p.dino),
                         ("diffusion.contrastive", c.diffusion.contrastive)):  # fmt: skip
        if weight < 0:
            raise ConfigError(f"{name} is {weight:g}; a weight must not be negative")
    if a.weight and not 1 <= a.layer <= m.depth:
        raise ConfigError(f"alignment.layer is {a.layer}; the model has blocks 1 to {m.depth} (model.depth)")
    if a.weight and a.projector == "conv" and r.keep < 1 and r.start < a.layer <= end:
        raise ConfigError(
            f"alignment.projector=conv needs all tokens, but after block {a.layer} (alignment.layer) some are routed "
            f"away: set alignment.layer to at most {r.start}, or alignment.projector=mlp"
        )
    if (p.lpips or p.dino) and m.predicts == "velocity":
        raise ConfigError(
            "perceptual losses compare clean pictures, which model.predicts=velocity does not give at high noise: set "
            "model.predicts=x0, or perceptual.lpips=0 and perceptual.dino=0"
        )
    if not 0 < p.lpips_scale <= 1:
        raise ConfigError(f"perceptual.lpips_scale is {p.lpips_scale:g}; it must be above 0 and at most 1")
    if not 0 < p.t_max <= 1:
        raise ConfigError(f"perceptual.t_max is {p.t_max:g}; it must be above 0 and at most 1")
    if m.layout == "joint" and m.modulation != "none":
        raise ConfigError("model.layout=joint has no modulation by the time: set model.modulation=none")
    if m.size_conditioning and m.modulation == "none":
        raise ConfigError("model.size_conditioning goes through the time's modulation: set model.modulation=block")
    if c.train.ema_every < 1 or c.train.posthoc_snapshots < 1:
        raise ConfigError("train.ema_every and train.posthoc_snapshots must be at least 1")
    if any(not 0.01 <= length <= 0.25 for length in c.train.posthoc_ema):
        raise ConfigError("train.posthoc_ema: relative lengths lie between 0.01 and 0.25, such as 0.05,0.1")
    if not c.diffusion.logit_std > 0:
        raise ConfigError(f"diffusion.logit_std is {c.diffusion.logit_std:g}; it must be above 0")


def _sections() -> dict[str, type]:
    return {name: kind for name, kind in typing.get_type_hints(Config).items() if hasattr(kind, "__dataclass_fields__")}


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
