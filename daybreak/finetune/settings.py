"""Everything that a fine-tuning run is told, with units and ranges; RUN/finetune.yaml holds it."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from daybreak.config import ConfigError
from daybreak.data.reading.settings import Lines
from daybreak.evaluate.prompts import PICTURES_EACH, PROMPTS
from daybreak.model_folder import FINETUNED_FILE
from daybreak.train.trackers import OPENERS

OWN_FILE = "finetune_own.yaml"
"""In its place where the base is a run of our own: the folder is then a run of daybreak train."""
Method = Literal["full", "lora", "dora", "textual-inversion"]
Sampler = Literal["ddim", "dpm", "euler", "unipc"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
LEARNING_RATES = {"full": 5e-6, "lora": 1e-4, "dora": 1e-4, "textual-inversion": 5e-3}
"""Defaults of the tutorial recipe; textual inversion's is that of its paper's code (arXiv 2208.01618)."""
FLAGS = {"targets": "--target"}
"""Of the fields that are named otherwise."""


@dataclass(frozen=True)
class FinetuneSettings:
    """A run. Raises ConfigError, naming the flag, for a value out of its range or two that do not go together."""

    base: str
    """Hub id, folder of a diffusers pipeline, or single .safetensors file."""
    data: str
    """Folder of captioned pictures, or prepared shards."""
    base_config: str | None = None
    """Folder with the configuration of a single-file base; none: fetched from the hub."""
    variant: str | None = None
    """Which of the base's files of weights, such as fp16; none: the plain ones, or those in their place."""
    allow_pickle: bool = False
    """Read weights that are not safetensors, by torch's weights-only reader."""
    method: Method = "full"
    rank: int = 16
    alpha: float | None = None
    """Of LoRA: the update is scaled by alpha / rank; none: by 1."""
    targets: tuple[str, ...] = ()
    """Layers that LoRA adapts, by the end of their name; empty: the attention's projections."""
    token: str | None = None
    """Of textual inversion: the new word."""
    init_word: str | None = None
    """Of textual inversion: the known word that the new one starts from."""
    vectors: int = 1
    """Of textual inversion: embeddings of the new word."""
    train_text_encoder: bool = False
    instance_prompt: str | None = None
    """The caption of every picture (DreamBooth), in place of its own."""
    class_prompt: str | None = None
    """DreamBooth: what the base draws, so that it is not forgotten (prior preservation)."""
    class_data: str | None = None
    """DreamBooth: folder of pictures for the class prompt, in place of drawn ones."""
    class_count: int = 200
    """DreamBooth: pictures that are drawn for the class prompt."""
    prior_weight: float = 1.0
    resolution: int | None = None
    """Side of the square training pictures, px; none: the base's."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour behind transparent pictures, sRGB 0..255."""
    captions: Lines = "whole"
    """Line breaks in captions: they belong to it (whole), divide several (lines), or end it (first)."""
    flip: bool = False
    """Mirror half of the pictures left to right."""
    held_out: float = 0.1
    """Share of the pictures kept from training, to measure with."""
    lr: float | None = None
    """None: the method's of LEARNING_RATES."""
    text_lr: float | None = None
    """Of the text encoder; none: as lr."""
    warmup_steps: int = 20
    decay_share: float = 0.0
    """Last share of the run over which the learning rate falls to zero."""
    weight_decay: float = 0.01
    adam_8bit: bool = False
    clip_norm: float = 1.0
    batch: int = 16
    """Pictures a step."""
    micro_batch: int | None = None
    """Pictures at once; the gradients of several are accumulated. None: what fits into memory."""
    epochs: float = 10.0
    steps: int | None = None
    """In place of epochs."""
    minutes: float | None = None
    """Ends the run after so many minutes of training."""
    deadline_minutes: float | None = None
    """Ends the run, with its report, so many minutes after it began."""
    drop_captions: float = 0.1
    """Share of captions dropped, for classifier-free guidance."""
    min_snr: float | None = None
    """Gamma of min-SNR weighting; none: no weighting."""
    offset_noise: float = 0.0
    """Strength of noise that shifts whole channels."""
    zero_snr: bool = False
    """Train, and draw, with a last step of pure noise; needs v-prediction."""
    ema: float = 0.999
    """Decay of the averaged weights; 0: the trained weights are the result."""
    precision: Precision = "auto"
    recompute: bool | None = None
    """Recompute activations in the backward pass; none: where the memory plan asks for it."""
    seed: int = 0
    prompts: tuple[str, ...] = ()
    """Drawn during training; empty: captions of held-out pictures."""
    general_prompts: tuple[str, ...] = ()
    """What must not be forgotten; empty: a fixed list."""
    sample_every: int = 100
    """Steps between samples, probes and pictures of attention."""
    sampler: Sampler = "dpm"
    sample_steps: int = 25
    guidance: float = 7.5
    save_every: int = 500
    """Steps between checkpoints."""
    report: bool = True
    """Compare with the base when training is over."""
    report_pictures: int = 200
    """Drawn to be compared with the held-out ones."""
    metric_weights: tuple[str, ...] = ()
    """NAME=FINETUNED_FILE, FOLDER or hub id of the metrics' networks, in place of a download."""
    trackers: tuple[str, ...] = ()
    """Beside TensorBoard: wandb, mlflow, or both."""

    def __post_init__(self) -> None:
        at_least = [
            ("--rank", self.rank, 1),
            ("--vectors", self.vectors, 1),
            ("--batch", self.batch, 2 if self.class_prompt else 1),
            ("--class-count", self.class_count, 1),
            ("--sample-every", self.sample_every, 1),
            ("--sample-steps", self.sample_steps, 1),
            ("--save-every", self.save_every, 1),
            ("--micro-batch", self.micro_batch, 1),
            ("--steps", self.steps, 1),
            ("--warmup", self.warmup_steps, 0),
            ("--resolution", self.resolution, 8),
        ]
        for flag, value, least in at_least:
            if value is not None and value < least:
                raise ConfigError(f"{flag} is {value}; it must be at least {least}")
        above_zero = [
            ("--lr", self.lr),
            ("--text-lr", self.text_lr),
            ("--epochs", self.epochs),
            ("--minutes", self.minutes),
            ("--deadline", self.deadline_minutes),
            ("--clip-norm", self.clip_norm),
            ("--min-snr", self.min_snr),
            ("--alpha", self.alpha),
        ]
        for flag, number in above_zero:
            if number is not None and not 0 < number < math.inf:
                raise ConfigError(f"{flag} is {number:g}; it must be a number above 0")
        for flag, number in (
            ("--prior-weight", self.prior_weight),
            ("--weight-decay", self.weight_decay),
            ("--offset-noise", self.offset_noise),
            ("--guidance", self.guidance),
        ):
            if not 0 <= number < math.inf:
                raise ConfigError(f"{flag} is {number:g}; it must be a number of at least 0")
        for flag, share in (
            ("--drop-captions", self.drop_captions),
            ("--ema", self.ema),
            ("--decay", self.decay_share),
        ):
            if not 0 <= share <= 1:
                raise ConfigError(f"{flag} is {share:g}; it must lie between 0 and 1")
        for name in self.trackers:
            if name not in OPENERS:
                raise ConfigError(f"--tracker {name} is not known; there are {' and '.join(OPENERS)}")
        if not 0 <= self.held_out <= 0.5:
            raise ConfigError(f"--held-out is {self.held_out:g}; it must lie between 0 and 0.5")
        if (self.method == "textual-inversion") != (self.token is not None):
            raise ConfigError('textual inversion goes with its new word: --method textual-inversion --token "<word>"')
        if self.train_text_encoder and self.method == "textual-inversion":
            raise ConfigError("textual inversion trains one word and nothing else: leave --train-text-encoder out")
        if self.class_data is not None and self.class_prompt is None:
            raise ConfigError("--class-data holds pictures of a class: say with --class-prompt what they show")
        self._refuse_what_has_no_use()

    def _refuse_what_has_no_use(self) -> None:
        """ConfigError for a setting, other than its default, of something that this run does not do."""
        for used, names, needs in (
            (self.low_rank, ("rank", "alpha", "targets"), "--method lora or dora"),
            (self.token is not None, ("init_word", "vectors"), "--method textual-inversion"),
            (self.train_text_encoder, ("text_lr",), "--train-text-encoder"),
            (self.class_prompt is not None, ("class_count", "prior_weight"), "--class-prompt"),
        ):
            for name in names:
                if not used and self.differs(name):
                    raise ConfigError(f"{flag_of(name)} has no use without {needs}")

    def differs(self, name: str) -> bool:
        """Whether a setting has another value than its default."""
        return bool(getattr(self, name) != type(self).__dataclass_fields__[name].default)

    @property
    def learning_rate(self) -> float:
        """Of the denoiser, or of the new word."""
        return LEARNING_RATES[self.method] if self.lr is None else self.lr

    def drawn_for_report(self, held_out: bool, general: int) -> int:
        """How many pictures the report takes: contact sheets and what metrics compare, of two models; general ones."""
        if not self.report:
            return 0
        return 2 * (PROMPTS * PICTURES_EACH + (self.report_pictures if held_out else 0)) + general

    @property
    def low_rank(self) -> bool:
        """Whether adapters are trained, and not the network itself."""
        return self.method in ("lora", "dora")


def flag_of(name: str) -> str:
    """The flag by which the field `name` is set."""
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def plain(settings: FinetuneSettings) -> dict[str, Any]:
    """As YAML has them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items()}


def save(settings: FinetuneSettings, run: Path, name: str = FINETUNED_FILE) -> None:
    """Writes RUN/finetune.yaml, or another `name`."""
    (run / name).write_text(yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=False))


def load(run: Path, name: str = FINETUNED_FILE) -> FinetuneSettings:
    """The settings of a run folder; ConfigError where it holds none, or damaged ones."""
    try:
        raw: Any = yaml.safe_load((run / name).read_text())
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        return FinetuneSettings(**fields)
    except FileNotFoundError:
        raise ConfigError(f"{run} is no run of daybreak finetune: it holds no {name}") from None
    except (OSError, yaml.YAMLError, TypeError, AttributeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{run / name} cannot be read: {' '.join(str(e).split())}") from None


def parse_duration(text: str, flag: str) -> float:
    """Minutes from 24h, 90m, 45s, 1h30m, or a bare number of minutes. ConfigError otherwise."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.replace(" ", ""))
    if not parts or not any(parts.groups()):
        raise ConfigError(f"{flag} is {text!r}; it must be a duration such as 24h, 90m or 1h30m")
    hours, minutes, seconds = (float(p or 0) for p in parts.groups())
    return 60 * hours + minutes + seconds / 60


def read_lines(path: Path | None, flag: str) -> tuple[str, ...]:
    """The lines of a text file, without empty ones; none of no file. ConfigError where it can't be read."""
    if path is None:
        return ()
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{flag} {path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if not lines:
        raise ConfigError(f"{flag} {path} holds no prompts")
    return lines
