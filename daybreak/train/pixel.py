"""Our own model as a trainee: the transformer that predicts clean pixels, and its text encoder."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from daybreak import config as configs
from daybreak.compiler import keep_away
from daybreak.config import Config, ModelConfig, RoutingConfig
from daybreak.config.files import plain
from daybreak.data.batch import Batch, Source
from daybreak.data.open import open_source
from daybreak.diffusion import flow
from daybreak.diffusion.times import sample_times
from daybreak.encoders.text import TextEncoder, TextTokens, open_text_encoder
from daybreak.evaluate.asked_pictures import save_asked
from daybreak.evaluate.during_training import measure
from daybreak.evaluate.samples_during_training import Probe
from daybreak.formats.run import load_averages
from daybreak.losses import compute as losses
from daybreak.losses import distillation
from daybreak.losses.grounding import GroundingTarget, grounding_target
from daybreak.losses.objective import Objective
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import build_optimizers
from daybreak.parallel import Ranks, full
from daybreak.sampling.generate import generate_together
from daybreak.train.deadline import evaluation_prompts, metrics_pictures
from daybreak.train.distributed import computing, spread
from daybreak.train.ema import averaged_copy, update_average
from daybreak.train.meters import NoiseLevels, known_matmul_rate, memory_gib, transformer_flops
from daybreak.train.phema import PowerAverages, named_tensors
from daybreak.train.precision import autocast, lower_precision, muon_dtype
from daybreak.train.trainee import Samples, Trainee

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

CAPTIONS_FOR_TOKENIZER = 20_000
ORDER_SEED = 1_000_003
"""Added to the seed of the data's order for each return to a checkpoint."""


@dataclass
class Pixel(Trainee):
    """`average` and `average_text` are the averaged networks (`average_text` is `text_encoder` itself where that is
    frozen). `objective` holds the losses' networks. `power_averages` are kept for `daybreak average` where the config
    asks for them.
    """

    transformer: Transformer
    text_encoder: TextEncoder
    average: Transformer
    average_text: TextEncoder
    objective: Objective
    power_averages: PowerAverages | None = None
    _first: Source | None = field(default=None, kw_only=True)
    _probe: Probe | None = field(default=None, kw_only=True)
    _stage: Config | None = field(default=None, kw_only=True)
    _matmul_rate: float = field(default=math.nan, kw_only=True)

    @classmethod
    def create(
        cls, config: Config, source: Source, device: torch.device, mesh: DeviceMesh | None = None,
        network: Callable[[ModelConfig, int, RoutingConfig], Any] = Transformer,
    ) -> Self:  # fmt: skip
        """A new run: random weights from `train.seed`, a tokenizer trained on the captions of `source`, the first
        stage's data. network: what denoises, made from its dimensions, the text's width and the routing."""
        torch.manual_seed(config.train.seed)
        text_encoder = open_text_encoder(config.text, lambda: source.some_captions(CAPTIONS_FOR_TOKENIZER))
        transformer = network(config.model, text_encoder.width, config.routing)
        pixel = cls.around(transformer, text_encoder, config, device, mesh)
        pixel._first = source
        return pixel

    @classmethod
    def of_checkpoint(cls, folder: Path, config: Config, device: torch.device, mesh: DeviceMesh | None = None) -> Self:
        """With the averaged weights of a checkpoint, for `checkpoint.restore` to fill in what training goes on with."""
        return cls.around(*load_averages(folder, config), config, device, mesh)

    @classmethod
    def around(
        cls, transformer: Transformer, text_encoder: TextEncoder, config: Config, device: torch.device,
        mesh: DeviceMesh | None = None,
    ) -> Self:  # fmt: skip
        """A run that starts from these networks, which every rank of `mesh` holds alike and which are sharded here."""
        if not config.train.compile:
            keep_away(torch.optim.Optimizer, "add_param_group", "zero_grad", "state_dict", "load_state_dict")
        transformer, text_encoder = transformer.to(device), text_encoder.to(device)
        objective = Objective.create(config).to(device)
        modules = {"transformer": transformer, "text_encoder": text_encoder, **objective.trained()}
        average = averaged_copy(transformer)
        average_text = text_encoder if text_encoder.frozen else averaged_copy(text_encoder)
        trained = [computing(m) for k, m in modules.items() if k != "text_encoder" or not text_encoder.frozen]
        averages = [average] if text_encoder.frozen else [average, average_text.network]
        spread([*trained, *averages], config, mesh, device)
        state = cls(
            transformer=transformer,
            text_encoder=text_encoder,
            average=average,
            average_text=average_text,
            optimizers=build_optimizers(modules, config.optim, muon_dtype(config, device)),
            generator=torch.Generator().manual_seed(config.train.seed),
            objective=objective,
            config=config,
        )
        if config.train.posthoc_ema:
            tensors = named_tensors(state.trained_networks())
            state.power_averages = PowerAverages(config.train.posthoc_ema, tensors)
        return state

    def trained_networks(self) -> dict[str, nn.Module]:
        """The trained networks that draw: what is averaged."""
        return {k: v for k, v in self.trained_modules().items() if k in ("transformer", "text_encoder")}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.transformer.parameters()).device

    def trained_modules(self) -> dict[str, nn.Module]:
        """The networks that are trained, by the name under which a checkpoint holds them."""
        modules: dict[str, nn.Module] = {"transformer": self.transformer}
        if not self.text_encoder.frozen:
            modules["text_encoder"] = self.text_encoder
        return modules | self.objective.trained()

    def drawing_networks(self) -> tuple[Transformer, TextEncoder]:
        """The averaged networks whole, at every rank: themselves, or copies where they are sharded."""
        if not self.sharded:
            return self.average, self.average_text
        weights = {k: full(v) for k, v in self.average.state_dict().items()}
        with torch.device("meta"):
            transformer = Transformer(self.config.model, self.text_encoder.width, self.config.routing)
        transformer.load_state_dict(weights, assign=True)
        text = self.average_text
        if not text.frozen:
            network = type(text.network)(text.network.config)
            network.load_state_dict({k: full(v) for k, v in text.network.state_dict().items()})
            text = TextEncoder(text.tokenizer, network, text.max_tokens).to(self.device)
        return transformer.requires_grad_(False).eval(), text.requires_grad_(False).eval()

    # Data and steps.

    def open_source(self, index: int) -> Source:
        """See `Trainee`."""
        if index == 0 and self.rollbacks == 0 and self._first is not None:
            source, self._first = self._first, None
            return source
        return open_stage_source(self.config, index, self.rollbacks)

    def enter(self, config: Config, source: Source) -> None:
        """See `Trainee`."""
        self._stage, self._probe = config, Probe(config, source)

    def random(self, batch: Batch, config: Config) -> StepRandomness:
        """See `Trainee`."""
        shape = torch.Size((config.train.batch, *batch.shape[1:]))
        return StepRandomness.draw(shape, config, self.generator)

    def loss(
        self, batch: Batch, random: StepRandomness, config: Config, progress: float, share: float,
        levels: NoiseLevels | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """See `Trainee`."""
        loss, terms = training_loss(
            self.transformer, self.text_encoder, batch, random, config, self.objective, progress, levels
        )
        return loss if share == 1 else share * loss, terms

    def autocast(self) -> AbstractContextManager[Any]:
        """See `Trainee`."""
        return autocast(self.config, self.device)

    def update_averages(self) -> None:
        """Every `train.ema_every` steps."""
        t = self.config.train
        if (self.step + 1) % t.ema_every:
            return
        update = self.step // t.ema_every
        update_average(self.average, self.transformer, t.ema, update)
        if not self.text_encoder.frozen:
            update_average(self.average_text, self.text_encoder, t.ema, update)
        if self.power_averages is not None:
            self.power_averages.update(self.trained_networks(), update)

    def prepare(self) -> None:
        """Frozen networks in bfloat16, compilation; measures how fast the device multiplies."""
        self._matmul_rate = known_matmul_rate(lower_precision(self.config, self.device), self.device)
        if lower_precision(self.config, self.device):
            self.objective.to_frozen_dtype(torch.bfloat16)
        if self.config.train.compile:
            whole = None if self.sharded else self.transformer  # a sharded one's blocks are compiled already
            for network in (whole, self.objective.teacher, self.objective.dino, self.objective.lpips):
                if network is not None:
                    network.compile()

    def measured(self, batch: Batch, speed: float, ranks: Ranks, watched: bool) -> dict[str, float]:
        """How much of what the device can multiply the transformer's training used (MFU), and the memory it took."""
        if not watched:
            return {}
        tokens = self.text_encoder.tokens(batch.captions)[0].shape[1]
        assert self._stage is not None
        flops = transformer_flops(self._stage, self.text_encoder.width, tokens)
        return {
            "mfu": flops * speed / (self._matmul_rate * ranks.world),
            "matmul_tflops": self._matmul_rate / 1e12,
            "text_tokens": float(tokens),
            "processes": float(ranks.world),
        } | memory_gib(self.device)

    # Pauses.

    def draw(self, path: Path, ranks: Ranks, asked: Sequence[str] = ()) -> Samples:
        """See `Trainee`."""
        assert self._probe is not None and self._stage is not None
        networks, seed = self.drawing_networks(), self._stage.evaluate.seed
        wanted = generate_together(ranks, *networks, list(asked), self._stage, seed) if asked else None
        drawn = self._probe.draw(*networks, path, ranks)  # writes, which may fail at the first process alone
        files = save_asked(wanted, asked, path, seed) if wanted is not None and ranks.first else {}
        return Samples(drawn.followed, drawn.seconds, drawn.inside, asked=files)

    def snapshot(self, run: Path, ranks: Ranks) -> None:
        """See `Trainee`."""
        assert self.power_averages is not None
        self.power_averages.snapshot(run, self.step // self.config.train.ema_every, ranks.first)

    def measure(self, run: Path) -> dict[str, float]:
        """See `Trainee`."""
        assert self._stage is not None
        return measure(*self.drawing_networks(), self._stage, run, self.position, self.device)

    def pictures_at_end(self) -> tuple[int, int]:
        """See `Trainee`."""
        return evaluation_prompts(self.config), metrics_pictures(self.config)

    # The run folder.

    def save_settings(self, run: Path) -> None:
        """RUN/config.yaml."""
        configs.save(self.config, run / "config.yaml")

    def plain_settings(self) -> dict[str, Any]:
        """See `Trainee`."""
        return plain(self.config)

    def tensors(self) -> dict[str, Tensor]:
        """weights.PART.NAME, and average.LENGTH.PART.NAME of the power averages."""
        seen: set[int] = set()
        found: dict[str, Tensor] = {}
        for part, module in self.trained_modules().items():
            for name, tensor in module.state_dict(keep_vars=True).items():
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    found[f"weights.{part}.{name}"] = tensor
        if self.power_averages is not None:
            for length, average in self.power_averages.tensors.items():
                found |= {f"average.{length:g}.{k}": v for k, v in average.items()}
        return found

    def write_drawing(self, folder: Path) -> Callable[[], None]:
        """transformer.safetensors, text_encoder/ and tokenizer/: the averaged networks."""
        transformer, text = self.drawing_networks()
        averages = {k: v.detach().to("cpu", copy=True) for k, v in transformer.state_dict().items()}
        if not text.frozen:
            text = TextEncoder(text.tokenizer, copy.deepcopy(text.network).cpu(), text.max_tokens)

        def write() -> None:
            save_file(contiguous(averages), folder / "transformer.safetensors")
            if not text.frozen:
                text.save(folder)

        return write

    def restore_drawing(self, folder: Path) -> None:
        """See `Trainee`."""
        for module, stored in zip((self.average, self.average_text), load_averages(folder, self.config), strict=True):
            if not getattr(module, "frozen", False):
                self.fill(dict(module.named_parameters()), dict(stored.named_parameters()))


def open_stage_source(config: Config, index: int, rollbacks: int) -> Source:
    """The data of a stage; after a return to a checkpoint they come in another order."""
    c = configs.at_stage(config, index)
    return open_source(replace(c, train=replace(c.train, seed=c.train.seed + ORDER_SEED * rollbacks)))


def contiguous(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """What safetensors can store: contiguous, and each memory once (T5 ties its two embedding tables)."""
    kept: dict[int, str] = {}
    return {k: v.contiguous() for k, v in named.items() if kept.setdefault(v.data_ptr(), k) == k}


@dataclass(frozen=True)
class StepRandomness:
    """Everything random in a step, drawn in one place, on the CPU, so that devices and resumes agree.

    noise [B, 3, H, W] with its scale, t [B], drop [B] bool (True where the caption is dropped), visible [B, K] image
    tokens that stay in the middle blocks or None (all), path_drop [B] bool or None (SPRINT's left-out paths).
    """

    noise: Tensor
    t: Tensor
    drop: Tensor
    visible: Tensor | None = None
    path_drop: Tensor | None = None

    @classmethod
    def draw(cls, shape: torch.Size, config: Config, generator: torch.Generator) -> StepRandomness:
        """For pictures of `shape` [B, 3, H, W]."""
        d, r, patch = config.diffusion, config.routing, config.model.patch
        noise = d.noise_scale * torch.randn(shape, generator=generator)
        if config.distill.teacher is None:
            t = sample_times(shape[0], d.shift, generator, d.logit_mean, d.logit_std)
        else:
            t = distillation.sample_grid_times(shape[0], config, generator)
        drop = torch.rand(shape[0], generator=generator) < d.p_uncond
        visible = sample_visible(shape[0], (shape[2] // patch) * (shape[3] // patch), r.keep, generator)
        path_drop = torch.rand(shape[0], generator=generator) < r.path_drop if r.path_drop else None
        return cls(noise, t, drop, visible, path_drop)

    def rows(self, rows: slice) -> StepRandomness:
        """What was drawn for some of the pictures."""
        visible, path_drop = (None if v is None else v[rows] for v in (self.visible, self.path_drop))
        return StepRandomness(self.noise[rows], self.t[rows], self.drop[rows], visible, path_drop)

    def to(self, device: torch.device) -> StepRandomness:
        """The same on `device`; `drop` stays, since captions are dropped on the CPU."""
        moved = [
            None if v is None else v.to(device, non_blocking=True)
            for v in (self.noise, self.t, self.visible, self.path_drop)
        ]
        noise, t, visible, path_drop = moved
        assert noise is not None and t is not None
        return StepRandomness(noise, t, self.drop, visible, path_drop)


def training_loss(
    transformer: Transformer, text_encoder: TextEncoder, batch: Batch, random: StepRandomness, config: Config,
    objective: Objective | None = None, progress: float = 0.0, levels: NoiseLevels | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The loss of one batch (a scalar), and its unweighted terms by name (detached scalars).

    `objective` holds the networks of the terms beside the velocity's; `progress` in [0, 1] is how far the run is;
    `levels` records the loss by noise level.
    """
    device = next(transformer.parameters()).device
    x0, random = batch.to(device).images, random.to(device)
    weights = losses.weights(config, progress)
    text = _encode(text_encoder, batch, random.drop, device, offsets="grounding" in weights)
    x_t = flow.interpolate(x0, random.noise, random.t)
    taught = None
    if "distillation" in weights:
        assert objective is not None and objective.source is not None
        taught = distillation.targets(transformer, text, objective.source, batch.captions, x_t, random.t, config)
    layer = config.alignment.layer if "alignment" in weights else None
    prediction = transformer(x_t, random.t, text, random.visible, layer, random.path_drop)
    places = _places(text, batch, random.drop, config, x0) if "grounding" in weights else None
    terms = losses.compute(prediction, x0, x_t, random.t, objective, config, set(weights), places, taught)
    if levels is not None:
        with torch.no_grad():
            floor = config.diffusion.floor
            levels.add(losses.velocity_loss(prediction.x0.detach(), x0, x_t, random.t, floor), random.t)
    loss = sum((weights[name] * term for name, term in terms.items()), start=torch.zeros((), device=device))
    return loss, {name: term.detach() for name, term in terms.items()}


def _encode(
    text_encoder: TextEncoder, batch: Batch, drop: Tensor, device: torch.device, offsets: bool
) -> TextTokens:  # fmt: skip
    """Tokens of the batch's captions, of the empty one where it is dropped; from the data where they hold features."""
    if batch.text is None:
        return text_encoder(["" if d else c for c, d in zip(batch.captions, drop.tolist(), strict=True)], offsets)
    empty = text_encoder([""])
    nothing = empty.embeddings[0][empty.mask[0]].to("cpu")
    text = TextTokens.of([nothing if d else row for row, d in zip(batch.text, drop.tolist(), strict=True)])
    return TextTokens(text.embeddings.to(device, non_blocking=True), text.mask.to(device), text.padded)


def _places(text: TextTokens, batch: Batch, drop: Tensor, config: Config, x0: Tensor) -> GroundingTarget:
    """Where the words of the batch's captions belong; of a dropped one nothing is known."""
    assert batch.phrases is not None and text.offsets is not None  # config.check has seen to it
    phrases = [[] if d else said for said, d in zip(batch.phrases, drop.tolist(), strict=True)]
    rows, columns = (side // config.model.patch for side in x0.shape[-2:])
    return grounding_target(phrases, text.offsets, rows, columns).to(x0.device)
