"""One training step, top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.data.batch import Batch, to_floats
from daybreak.diffusion import flow
from daybreak.diffusion.times import sample_times
from daybreak.encoders.text import TextEncoder, TextTokens
from daybreak.losses import compute as losses
from daybreak.losses import distillation
from daybreak.losses.grounding import GroundingTarget, grounding_target
from daybreak.losses.objective import Objective
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer
from daybreak.parallel import full, local
from daybreak.train.distributed import computing, synchronise
from daybreak.train.precision import autocast


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
    `levels` takes note of the loss by noise level.
    """
    device = next(transformer.parameters()).device
    x0, random = to_floats(batch.images.to(device, non_blocking=True)), random.to(device)
    weights = losses.weights(config, progress)
    text = _encode(text_encoder, batch, random.drop, device, offsets="grounding" in weights)
    x_t = flow.interpolate(x0, random.noise, random.t)
    if objective is not None and objective.source is not None:
        loss = distillation.loss(transformer, text, objective.source, batch.captions, x_t, random.t, config)
        return loss, {"distillation": loss.detach()}
    layer = config.alignment.layer if "alignment" in weights else None
    prediction = transformer(x_t, random.t, text, random.visible, layer, random.path_drop)
    places = _places(text, batch, random.drop, config, x0) if "grounding" in weights else None
    terms = losses.compute(prediction, x0, x_t, random.t, objective, config, set(weights), places)
    if levels is not None:
        levels.add(prediction.x0.detach(), x0, x_t, random.t, config.diffusion.floor)
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


class NoiseLevels:
    """The velocity's loss in four equal ranges of noise levels, summed over pictures: sums and counts [4] each."""

    COUNT = 4

    def __init__(self, device: torch.device) -> None:
        self.sums, self.counts = torch.zeros(self.COUNT, device=device), torch.zeros(self.COUNT, device=device)

    def add(self, predicted_x0: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, floor: float) -> None:
        """Takes note of a batch: pictures [B, 3, H, W], t [B] in [0, 1]."""
        with torch.no_grad():
            each = losses.velocity_loss(predicted_x0, x0, x_t, t, floor)
            level = (t * self.COUNT).long().clamp(max=self.COUNT - 1)
            self.sums.index_add_(0, level, each)
            self.counts.index_add_(0, level, torch.ones_like(each))


def backward(
    transformer: Transformer, text_encoder: TextEncoder, batch: Batch, random: StepRandomness, config: Config,
    objective: Objective, progress: float, levels: NoiseLevels | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """Adds up the gradient of the batch's loss, at most `train.microbatch` pictures at a time.

    Returns the loss and its unweighted terms by name, detached.
    """
    n = len(batch)
    size = min(n, config.train.microbatch or n)
    modules = [transformer, computing(text_encoder), *objective.trained().values()]
    totals: dict[str, Tensor] = {}
    for start in range(0, n, size):
        rows = slice(start, min(n, start + size))
        whole = size == n
        part = batch if whole else batch.rows(rows)
        synchronise(modules, now=rows.stop == n)
        device = next(transformer.parameters()).device
        with autocast(config, device):
            loss, terms = training_loss(
                transformer, text_encoder, part, random if whole else random.rows(rows), config, objective, progress,
                levels,
            )  # fmt: skip
        share = len(part) / n
        (loss if whole else share * loss).backward()
        for name, value in {"": loss.detach(), **terms}.items():
            totals[name] = totals.get(name, 0) + share * value.float()
    return totals.pop(""), totals


def clip_and_step(
    parameters: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], clip_norm: float, lr_factor: float,
    accept: Callable[[float], bool] = math.isfinite,
) -> Tensor:  # fmt: skip
    """Clips the gradients to `clip_norm`, applies one update at `lr_factor` times the base rates, clears them.

    Returns the gradients' norm before clipping. Where `accept` refuses it, nothing is applied.
    """
    norm = gradient_norm(parameters)
    if accept(norm.item()):
        grads = [local(p.grad) for p in parameters if p.grad is not None]
        torch._foreach_mul_(grads, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * lr_factor
            optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return norm


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of all gradients together: a scalar, the same at every rank."""
    return full(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
