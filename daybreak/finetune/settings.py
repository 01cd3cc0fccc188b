"""Everything that a fine-tuning run is told, with units and ranges; RUN/finetune.yaml holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from daybreak.config import ConfigError
from daybreak.config.bounds import Bounds, Count, Flag, Natural, NotNegative, Positive, Share, Typed
from daybreak.config.fields import check_fields, fields_of
from daybreak.config.files import load_settings, save_settings
from daybreak.config.quantities import time_in
from daybreak.config.settings import Colour, Lines, TrackerName
from daybreak.data.reading.settings import Reading, parse_caption
from daybreak.evaluate.measures import PICTURES_EACH, PROMPTS
from daybreak.model_folder import FINETUNED_FILE

OWN_FILE = "finetune_own.yaml"
"""In its place where the base is a run of our own: the folder is then a run of daybreak train."""
Method = Literal["full", "lora", "dora", "loha", "lokr", "textual-inversion"]
Sampler = Literal["ddim", "dpm", "euler", "unipc"]
LEARNING_RATES = {"full": 5e-6, "textual-inversion": 5e-3} | dict.fromkeys(("lora", "dora", "loha", "lokr"), 1e-4)
"""Defaults of the tutorial recipe; textual inversion's is that of its paper's code (arXiv 2208.01618)."""


def read_lines(path: str, flag: str) -> tuple[str, ...]:
    """The lines of a text file, without empty ones. ConfigError where it can't be read, or holds none."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{flag} {path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if not any(line.strip() for line in lines):
        raise ConfigError(f"{flag} {path} holds no prompts")
    return tuple(line.strip() for line in lines if line.strip())


@dataclass(frozen=True)
class FinetuneSettings:
    """A run. Raises ConfigError, naming the flag, for a value out of its range or two that do not go together."""

    base: Annotated[str, Flag("BASE")] = ""
    """What to start from: a hub id, a diffusers folder, a single .safetensors file, or a run of daybreak train."""
    data: str = ""
    """Folder of captioned pictures, or prepared shards."""
    method: Method = "full"
    """What is trained: the whole network, an adapter of it, or a new word. dora: LoRA with lengths apart; loha, lokr:
    products value by value, or Kronecker's."""
    rank: Count = 16
    """Rank of an adapter's factors."""
    alpha: Positive | None = None
    """An adapter's update is scaled by alpha / rank; none: by 1."""
    targets: Annotated[tuple[str, ...], Flag("--target")] = ()
    """Layers that are adapted, by the end of their name, such as to_k; empty: the attention's projections."""
    lora: str | None = None
    """Adapter file of the method's kind to go on from, whoever wrote it; rank, alpha and layers are its own."""
    token: str | None = None
    """Textual inversion: the new word, such as <mine>."""
    init_word: str | None = None
    """Textual inversion: the known word that the new one starts from."""
    vectors: Count = 1
    """Textual inversion: embeddings of the new word."""
    base_weights: Literal["plain", "int8", "nf4"] = "plain"
    """How the denoiser's own weights are kept while an adapter or a word is trained: plain, in 8 or in 4 bits."""
    offload: bool = False
    """Keep the frozen denoiser's blocks in main memory, and bring each to the GPU ahead of its use."""
    train_text_encoder: bool = False
    """Train the text encoder too."""
    text_lr: Positive | None = None
    """Learning rate of the text encoder; none: as --lr."""
    instance_prompt: str | None = None
    """DreamBooth: the caption of every picture, in place of its own."""
    class_prompt: str | None = None
    """DreamBooth: the class that the base draws, so that it is not forgotten (prior preservation)."""
    class_data: str | None = None
    """DreamBooth: folder of pictures for the class prompt; none: the base draws them."""
    class_count: Count = 200
    """DreamBooth: pictures that are drawn for the class prompt."""
    prior_weight: NotNegative = 1.0
    """DreamBooth: weight of the class's loss."""
    resolution: Annotated[int | None, Bounds(least=8)] = None
    """Side of the square whose number of pixels training pictures have at most, px; none: the base's."""
    square: bool = False
    """Crop every picture to that square, and scale smaller ones up, in place of keeping its ratio."""
    max_ratio: Annotated[float, Bounds(least=1)] = 3.0
    """Widest training pictures, width over height, and tallest; what is beyond is cropped."""
    upscale: bool = False
    """Scale pictures up that have fewer pixels; else they keep their size."""
    background: Colour = (255, 255, 255)
    """Colour behind transparent pictures, sRGB 0..255."""
    captions: Lines = "whole"
    """Line breaks in captions: they belong to it (whole), divide several (lines), or end it (first)."""
    caption: Annotated[dict[str, float], Typed(parse_caption, "COLUMN[=WEIGHT]")] = field(default_factory=dict)
    """Columns of captions, and how often each is taken, anew each time; empty: found by their usual names."""
    trigger: str | None = None
    """Word that every caption gets: in place of [trigger], else in front."""
    shuffle_tags: bool = False
    """Take the tags of a caption in another order each time; the text encoders then read it in every step."""
    keep_tags: Natural = 0
    """First tags of a caption that keep their place."""
    tag_separator: str = ","
    """What divides tags."""
    masks: Annotated[str | None, Typed(lambda text, _: text, "alpha|beside|<path>")] = None
    """Masks that weigh the loss: the pictures' opacity (alpha), NAME-mask.png or NAME-masklabel.png beside each
    (beside), or those of a folder; none: every part counts alike."""
    unmasked: Share = 0.1
    """Weight of what is black in a mask; white has 1."""
    flip: bool = False
    """Mirror half of the pictures left to right."""
    held_out: Annotated[float, Bounds(least=0, most=0.5)] = 0.1
    """Share of the pictures kept from training, to measure with."""
    lr: Positive | None = None
    """Learning rate; none: 5e-6 for full, 5e-3 for textual-inversion, 1e-4 for adapters."""
    warmup_steps: Annotated[int, Bounds(least=0), Flag("--warmup")] = 20
    """Steps over which the learning rate rises."""
    decay_share: Annotated[float, Bounds(least=0, most=1), Flag("--decay")] = 0.0
    """Last share of the run over which the learning rate falls to zero."""
    weight_decay: NotNegative = 0.01
    """AdamW's weight decay."""
    adam_8bit: bool = False
    """Keep AdamW's moments in 8 bits."""
    clip_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    batch: Count = 16
    """Pictures a step."""
    micro_batch: Count | None = None
    """Pictures at once; the gradients of several are accumulated. None: what fits into memory."""
    epochs: Positive = 10.0
    """How often each picture is seen."""
    steps: Count | None = None
    """Steps of the run, in place of --epochs."""
    minutes: Positive | None = None
    """Ends training after this many minutes."""
    deadline_minutes: Annotated[float | None, Bounds(above=0), time_in("min"), Flag("--deadline")] = None
    """Time until everything is done, report included, such as 24h or 90min."""
    drop_captions: Share = 0.1
    """Share of captions dropped, for classifier-free guidance."""
    min_snr: Positive | None = None
    """Gamma of min-SNR weighting, 5 usually; none: no weighting."""
    offset_noise: NotNegative = 0.0
    """Strength of noise that shifts whole channels, 0.05 usually: the model learns dark and bright pictures."""
    zero_snr: bool = False
    """Train, and draw, with a last step of pure noise; needs v-prediction."""
    ema: Share = 0.999
    """Decay of the averaged weights; 0: the trained weights are the result."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the computation; auto: the best that the device has."""
    recompute: bool | None = None
    """Recompute activations in the backward pass; none: where the memory plan asks for it."""
    prompts: Annotated[tuple[str, ...], Flag("--prompt")] = ()
    """Drawn during training; empty: captions of held-out pictures."""
    general_prompts: Annotated[tuple[str, ...], Typed(read_lines, "<path>")] = ()
    """File of prompts, one a line, for what must not be forgotten; empty: a fixed list."""
    sample_every: Count = 100
    """Steps between samples, probes and pictures of attention."""
    sampler: Sampler = "dpm"
    """Sampler that draws during training and for the report."""
    sample_steps: Count = 25
    """Steps of that sampler."""
    guidance: NotNegative = 7.5
    """Scale of its classifier-free guidance."""
    save_every: Count = 500
    """Steps between checkpoints."""
    report: bool = True
    """Compare with the base when training is over."""
    report_pictures: Annotated[int, Bounds(least=2)] = 200
    """Pictures that are drawn to be compared with the held-out ones."""
    metric_weights: Annotated[tuple[str, ...], Flag("--weights")] = ()
    """NAME=FILE, FOLDER or hub id of the metrics' networks, in place of a download."""
    trackers: Annotated[tuple[TrackerName, ...], Flag("--tracker")] = ()
    """Where curves and pictures go beside TensorBoard."""
    seed: Natural = 0
    """Seed of the order of pictures, the noise and the samples."""
    base_config: str | None = None
    """Folder with the configuration of a single-file base; none: fetched from the hub."""
    variant: str | None = None
    """Which of the base's files of weights, such as fp16; none: the plain ones, or those in their place."""
    allow_pickle: bool = False
    """Read weights that are not safetensors too (.bin, .ckpt), by torch's weights-only reader."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.class_prompt is not None and self.batch < 2:
            raise ConfigError(f"--batch is {self.batch}; with --class-prompt it must be at least 2")
        if (self.method == "textual-inversion") != (self.token is not None):
            raise ConfigError('textual inversion goes with its new word: --method textual-inversion --token "<word>"')
        if self.shuffle_tags and not self.tag_separator.strip():
            raise ConfigError("--tag-separator is empty: say what divides tags, such as a comma")
        if self.train_text_encoder and self.method == "textual-inversion":
            raise ConfigError("textual inversion trains one word and nothing else: leave --train-text-encoder out")
        if self.class_data is not None and self.class_prompt is None:
            raise ConfigError("--class-data holds pictures of a class: say with --class-prompt what they show")
        for used, names, needs in (
            (self.low_rank, ("rank", "alpha", "targets", "lora"), "--method lora, dora, loha or lokr"),
            (self.token is not None, ("init_word", "vectors"), "--method textual-inversion"),
            (self.train_text_encoder, ("text_lr",), "--train-text-encoder"),
            (self.class_prompt is not None, ("class_count", "prior_weight"), "--class-prompt"),
            (self.shuffle_tags, ("keep_tags", "tag_separator"), "--shuffle-tags"),
            (self.masks is not None, ("unmasked",), "--masks"),
        ):
            for name in names:
                if not used and self.differs(name):
                    raise ConfigError(f"{fields_of(type(self))[name].flag} has no effect without {needs}")
        if self.base_weights != "plain" and self.method == "full":
            raise ConfigError("--base-weights keeps weights that are not trained: --method full trains them all")
        if self.offload and self.method == "full":
            raise ConfigError("--offload moves weights that are not trained: --method full trains them all")
        if self.offload and self.recompute is False:
            raise ConfigError("--offload recomputes activations: leave --no-recompute out")
        for name in ("rank", "alpha", "targets"):
            if self.lora is not None and self.differs(name):
                raise ConfigError(f"{fields_of(type(self))[name].flag} has no effect with --lora, whose own it keeps")
        for name in ("max_ratio", "upscale"):
            if self.square and self.differs(name):
                raise ConfigError(f"{fields_of(type(self))[name].flag} has no effect with --square")

    def differs(self, name: str) -> bool:
        """Whether a setting has another value than its default."""
        return bool(getattr(self, name) != fields_of(type(self))[name].default)

    @property
    def reading(self) -> Reading:
        """How captions are read."""
        return Reading(captions=self.caption, lines=self.captions)

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
        return self.method in ("lora", "dora", "loha", "lokr")


def save(settings: FinetuneSettings, run: Path, name: str = FINETUNED_FILE) -> None:
    """Writes RUN/finetune.yaml, or another `name`."""
    save_settings(settings, run / name)


def load(run: Path, name: str = FINETUNED_FILE) -> FinetuneSettings:
    """The settings of a run folder; ConfigError where it holds none, or damaged ones."""
    return load_settings(FinetuneSettings, run / name, "daybreak finetune")
