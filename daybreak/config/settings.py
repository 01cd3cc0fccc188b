"""Every setting of a run, with its unit, range and default: frozen dataclasses, one a section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from daybreak.config.bounds import BelowOne, Bounds, Count, Flag, Natural, NotNegative, Positive, PositiveShare, Share
from daybreak.config.quantities import in_usd, time_in

Channel = Annotated[int, Bounds(least=0, most=255)]
Colour = tuple[Channel, Channel, Channel]
AverageLength = Annotated[float, Bounds(least=0.01, most=0.25)]
"""Of a post-hoc average: the standard deviation of its weights over the run, as a share of the run."""
Lines = Literal["whole", "lines", "first"]
TrackerName = Literal["wandb", "mlflow"]


@dataclass(frozen=True)
class DataConfig:
    """Where pictures and captions come from."""

    source: Literal["scenes", "folder", "shards"] = "scenes"
    """The embedded world (scenes), captioned pictures on disk (folder), or what `daybreak prepare` made (shards)."""
    folder: str | None = None
    """Folder of captioned pictures, for source `folder`."""
    shards: tuple[str, ...] = ()
    """Folders or addresses of prepared sets, for source `shards`."""
    weights: tuple[Positive, ...] = ()
    """Shares of the sets of `shards` in training; none: in the ratio of their sizes."""
    max_ratio: Annotated[float, Bounds(least=1)] = 2.0
    """Widest training pictures, width over height (source `shards`); 1 crops to squares."""
    bad_share: BelowOne = 0.01
    """The run stops once more than this share of all rows is damaged (source `shards`)."""
    cache: str | None = None
    """Local folder in which remote shards are kept while they are used."""
    cache_gb: Positive = 100.0
    """The most that the cache holds, GB."""
    embeddings: str | None = None
    """Name of the text features that `daybreak embed` wrote beside the shards; none: training encodes captions."""
    captions: Lines = "whole"
    """Line breaks in captions (source `folder`): they belong to it, divide several, or end it (only the first line)."""
    resolution: Annotated[int, Bounds(least=8)] = 32
    """Side of the square training pictures, px."""
    background: Colour = (255, 255, 255)
    """Colour behind transparent pictures, sRGB 0..255."""
    flip: bool = False
    """Mirror half of the pictures left to right (not for `scenes`). Wrong where captions speak of left and right."""
    workers: Natural = 1
    """Threads that prepare batches ahead of the training loop; 0: none."""
    task_weights: tuple[NotNegative, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Shares of the six tasks (source `scenes`), in the order of daybreak.data.scenes.world.TASKS."""
    dense: Share = 0.0
    """Share of captions that name everything of their picture and where it stands (source `scenes`)."""


@dataclass(frozen=True)
class TextConfig:
    """The text encoder: the embedded one, trained with the model, or a frozen pretrained one."""

    vocabulary: Annotated[int, Bounds(least=259)] = 512
    """Most entries of the BPE tokenizer; at least 259 (all bytes and three special tokens)."""
    width: Count = 128
    """Channels of the embedded encoder."""
    depth: Natural = 2
    """Blocks of the embedded encoder; 0: its words' embeddings alone."""
    heads: Count = 4
    """Attention heads of the embedded encoder; they divide its width."""
    max_tokens: Annotated[int, Bounds(least=2)] = 64
    """Longer captions are cut here."""
    pretrained: str | None = None
    """Hub id or folder of a frozen encoder (T5, T5Gemma, CLIP, Gemma 3, Qwen3) in place of the embedded one."""
    revision: str | None = None
    """Revision of `pretrained` on the hub; none: the newest."""


@dataclass(frozen=True)
class ModelConfig:
    """The pixel transformer."""

    width: Annotated[int, Bounds(least=4)] = 128
    """Channels of a token."""
    depth: Count = 5
    """Transformer blocks."""
    heads: Count = 4
    """Attention heads; each has a multiple of 4 channels."""
    mlp_ratio: Positive = 3.5
    """Hidden width of the gated MLP over `width`."""
    patch: Count = 4
    """Side of a patch, px."""
    bottleneck: Count | None = None
    """Width between the two linear layers of the patch embedding; none: one layer."""
    rope_theta: Positive = 10_000.0
    """Base of the wavelengths of the rotary position embedding."""
    size_conditioning: bool = False
    """Add the picture's height and width to the time embedding."""
    predicts: Literal["x0", "velocity"] = "x0"
    """What the network's output stands for."""
    modulation: Literal["block", "shared", "none"] = "block"
    """How blocks learn of the time: a modulation each, one for all with a bias each, or not at all."""
    layout: Literal["text_kv", "joint"] = "text_kv"
    """How text enters: as keys and values only (text_kv), or as a stream of its own (joint: MM-DiT's, and without
    modulation MiniT2I's)."""
    text_blocks: Natural = 0
    """Trained transformer blocks on the text alone, ahead of the others."""
    convolutions: tuple[Count, ...] = ()
    """Channels of convolutions around the transformer, in place of patches, from the full side on, each at half the
    side of the one before; patch must be 2 to the power of their number. None: PRX's patches."""
    detail: Natural = 0
    """Channels of convolutions at the full side that add detail to the prediction, as the last tokens tell them (as DiP
    and DeCo have it); 0: none. Not together with convolutions."""
    text_convolutions: Natural = 0
    """Layers of convolutions on the text, ahead of all else."""
    pooled_text: bool = False
    """Add the mean of the text to the time embedding."""
    grounding: bool = False
    """Words say where in the picture they belong, and are heard there; see grounding.weight."""
    start: Literal["grey", "identity"] = "grey"
    """The first prediction: grey, or 0.4 of the noisy picture (needs a width above a patch's 3 patch^2 values)."""
    recompute: bool = False
    """Recompute each block in the backward pass: less memory, a third more work."""


@dataclass(frozen=True)
class RoutingConfig:
    """Image tokens that skip the middle blocks in training (TREAD, SPRINT)."""

    keep: PositiveShare = 1.0
    """Share of the image tokens that stay; 1: no routing."""
    start: int = 2
    """Blocks that see all tokens at first."""
    end: int | None = None
    """Blocks after which the tokens return; none: before the last one."""
    method: Literal["tread", "sprint"] = "tread"
    """How the others return: as they left (tread), or as a learned token, fused with how they left (sprint)."""
    path_drop: Share = 0.0
    """Share of the pictures whose middle blocks are left out whole (sprint), which guidance then subtracts."""


@dataclass(frozen=True)
class AlignmentConfig:
    """Features of a middle block drawn to those of a vision teacher (REPA)."""

    weight: NotNegative = 0.0
    """Weight of the loss; 0: none."""
    teacher: str = "embedded"
    """The embedded one (`embedded`, which knows scenes), a file of `daybreak teach`, or a hub id or folder (DINOv2,
    DINOv3, SigLIP)."""
    layer: int = 8
    """Blocks after which the features are taken."""
    projector: Literal["mlp", "conv"] = "mlp"
    """What maps features to the teacher's: REPA's MLP on each token, or iREPA's 3 x 3 convolution, which needs all."""
    projector_width: Count = 2048
    """Hidden width of the mlp projector."""
    until: Share = 1.0
    """Share of the run after which alignment ends."""
    resolution: Count | None = None
    """Side at which the teacher sees the picture, px; none: the side that gives it the model's grid."""


@dataclass(frozen=True)
class GroundingConfig:
    """Words drawn to where their phrase stands in the picture, where the data know it (`scenes`)."""

    weight: NotNegative = 0.0
    """Weight of the loss; 0: none. Needs model.grounding."""


@dataclass(frozen=True)
class PerceptualConfig:
    """Losses between the predicted and the true picture in the features of frozen networks."""

    lpips: NotNegative = 0.0
    """Weight of LPIPS; 0: none."""
    lpips_network: str = "embedded"
    """The embedded one (`embedded`: LPIPS's form on this package's teacher), a file of `daybreak teach`, or that of
    torchvision's VGG16 weights."""
    lpips_heads: str | None = None
    """File of LPIPS's published 1 x 1 heads for VGG16; none: the network is no VGG16."""
    lpips_scale: PositiveShare = 0.5
    """Both pictures are scaled by this before LPIPS."""
    dino: NotNegative = 0.0
    """Weight of 1 - cosine between patch features; 0: none."""
    dino_teacher: str = "embedded"
    """As alignment.teacher."""
    dino_resolution: Count | None = None
    """Side at which the teacher sees both pictures, px; none: that of the training pictures, to whole patches."""
    t_max: PositiveShare = 1.0
    """Only pictures with a noise level up to this take part."""


@dataclass(frozen=True)
class DiffusionConfig:
    """Noise levels and the loss's weighting."""

    shift: Positive = 3.0
    """Moves training and sampling times towards noise; 1 leaves them."""
    floor: Positive = 0.05
    """Least divisor in v = (x_t - x0) / max(t, floor) of the training loss."""
    noise_scale: Positive = 1.0
    """Standard deviation of the noise at t = 1."""
    p_uncond: Share = 0.1
    """Share of captions dropped in training, for classifier-free guidance."""
    logit_mean: float = 0.0
    """Mean of the training times' logit, before the shift."""
    logit_std: Positive = 1.0
    """Their standard deviation: training times are logit-normal."""
    contrastive: NotNegative = 0.0
    """Weight by which velocities are pushed from those of other pictures (contrastive flow matching); 0: none."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule."""

    matrices: Literal["muon", "normuon", "adamw"] = "muon"
    """Optimiser of the blocks' matrices. normuon: Muon with rows of equal size."""
    orthogonalization: Literal["quintic", "polar_express"] = "quintic"
    """Muon's polynomials: one quintic five times, or Polar Express's sequence."""
    muon_lr: Positive = 0.005
    """Learning rate of the blocks' matrices (update matched to AdamW's size)."""
    muon_momentum: BelowOne = 0.95
    """Momentum of the blocks' matrices."""
    muon_every: Count = 1
    """A matrix of the blocks moves at one step in so many, by as much more; each step another share of them does."""
    adam_lr: Positive = 0.002
    """Learning rate of everything else."""
    adam_betas: tuple[BelowOne, BelowOne] = (0.9, 0.95)
    """Decay of AdamW's first and second moment."""
    adam_eps: Positive = 1e-8
    """Added to the root of AdamW's second moment."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay of all matrices, times the learning rate."""
    warmup_steps: Natural = 50
    """Steps over which the learning rate rises from zero."""
    decay_share: Share = 0.4
    """Last share of the budget over which the learning rate falls linearly to zero."""
    clip_norm: Positive = 1.0
    """Gradients are scaled down to this total norm."""


@dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    batch: Count = 48
    """Pictures a step."""
    steps: Count | None = None
    """Ends the run after this many steps."""
    minutes: Positive | None = None
    """Ends the run after this many minutes of training; sampling and scoring are not counted."""
    seed: Natural = 0
    """Of the first weights, the data's order and the noise."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the forward and backward pass; weights stay float32. auto: bfloat16 where the hardware multiplies it."""
    ema: Share = 0.999
    """Decay of the averaged weights at each update; what sampling and scoring use. 0: the trained weights."""
    ema_every: Count = 1
    """Steps between updates of the average."""
    posthoc_ema: tuple[AverageLength, ...] = ()
    """Relative lengths of power-function averages to keep, such as 0.05,0.1, for `daybreak average` afterwards."""
    posthoc_snapshots: Count = 16
    """Snapshots of each over the run."""
    compile: bool = False
    """Compile the transformer and the frozen networks (torch.compile); pays on a GPU."""
    save_minutes: Positive = 5.0
    """Time between checkpoints, minutes."""
    save_steps: Count | None = None
    """Steps between further checkpoints; none: time alone decides."""
    keep: Count = 2
    """Newest checkpoints that stay; the one with the best score stays besides."""
    microbatch: Count | None = None
    """Most pictures in a forward and backward pass of one GPU; a step adds up several. None: all at once."""
    shard: Count | None = None
    """GPUs that share one copy of the weights (FSDP); none: those of a node, each node holding a copy (HSDP)."""
    explode: Annotated[float, Bounds(above=1)] = 10.0
    """A step whose loss is this many times the largest of the last hundred steps is not applied."""
    stall_minutes: Positive = 30.0
    """The run ends, with every thread's stack in RUN/stalls, where no step ends for so long."""
    watch_every: Count = 50
    """Steps between measurements of norms by group and of the loss by noise level."""
    sample_every: PositiveShare = 0.125
    """Share of the budget between sample grids."""
    sample_steps: Count | None = None
    """Steps between sample grids, in place of a share of the budget; none: sample_every decides."""
    trackers: tuple[TrackerName, ...] = ()
    """Where curves and pictures go beside TensorBoard: wandb, mlflow, or both; each needs its package installed."""


@dataclass(frozen=True)
class BudgetConfig:
    """The moment by which everything is done, evaluation included, on the wall clock, through crashes and restarts."""

    hours: Annotated[float | None, Bounds(above=0), time_in("h"), Flag("--deadline")] = None
    """Time until everything is done, evaluation included: --deadline 24h, which is budget.hours 24."""
    usd: Annotated[float | None, Bounds(above=0), in_usd("usd"), Flag("--budget")] = None
    """What the run may cost: --budget 1500usd. With `price` and `gpus` it makes a deadline; the nearer one counts."""
    price: Annotated[float | None, Bounds(above=0), in_usd("/gpu-hour")] = None
    """What one GPU costs for an hour: --price 2.0/gpu-hour."""
    gpus: Count | None = None
    """GPUs that train and are paid for; none: the processes of the run (for `daybreak plan`: 1)."""


@dataclass(frozen=True)
class SampleConfig:
    """How pictures are drawn."""

    sampler: Literal["euler", "heun"] = "euler"
    """How the differential equation is solved: one evaluation a step (euler) or two (heun)."""
    steps: Count = 24
    """Steps of the sampler."""
    guidance: NotNegative = 3.0
    """Scale of guidance; 1 is none."""
    guidance_kind: Literal["classifier_free", "routed", "both"] = "classifier_free"
    """Against the empty caption, against the routed prediction (needs routing), or against both at once."""
    guidance_from: Share = 0.0
    """Guidance acts from this t on (1 is noise)."""
    guidance_to: Share = 1.0
    """Guidance acts up to this t."""
    batch: Count = 64
    """Pictures drawn at once."""
    expand: str | None = None
    """Who writes out what a prompt leaves open before it is drawn: `scenes` (that world's own rules), a chat model by
    hub id or folder, or an address of OpenAI's chat API; none: prompts are drawn as they stand."""


@dataclass(frozen=True)
class EvaluateConfig:
    """How a run is scored."""

    prompts_per_task: Count = 48
    """Prompts of each of the six tasks of `scenes`."""
    held_out_prompts: Count = 96
    """Prompts that ask for combinations which training never shows."""
    seed: Natural = 1234
    """Of prompts and noise."""
    grid_prompts: tuple[str, ...] = ()
    """Prompts of the sample grids; empty: chosen from the data. Those with commas in them go in with a YAML file."""
    metrics: tuple[str, ...] = ()
    """Measured during training, named as for `daybreak evaluate --metrics`; empty: none."""
    metrics_every: Count = 1_000_000
    """Pictures seen between two measurements."""
    metrics_count: Annotated[int, Bounds(least=2)] = 1000
    """Pictures drawn for a measurement."""
    reference: str | None = None
    """Folder of real pictures that the metrics compare with; a run on `scenes` draws its own."""
    weights: tuple[str, ...] = ()
    """NAME=FILE, FOLDER or hub id of the metrics' networks, in place of a download."""


@dataclass(frozen=True)
class DistillConfig:
    """A student that draws in few steps what a trained model draws in many; set by `daybreak distill`."""

    teacher: str | None = None
    """Folder of the trained model, in any form that draws; none: no distillation."""
    steps: Count = 4
    """Steps in which the student draws."""
    substeps: Count = 8
    """Steps of the teacher in each of the student's."""
    guidance: NotNegative = 3.0
    """Scale of the teacher's guidance, with which the student draws by itself."""


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
    grounding: GroundingConfig = field(default_factory=GroundingConfig)
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    stages: tuple[StageConfig, ...] = ()
    """Parts of the run in their order; empty: one part."""
