"""One training step, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.data.batch import Batch
from daybreak.diffusion import flow
from daybreak.diffusion.times import sample_times
from daybreak.encoders.text import TextEncoder, TextTokens
from daybreak.losses import compute as losses
from daybreak.losses import distillation
from daybreak.losses.objective import Objective
from daybreak.model.routing import sample_visible
from daybreak.model.transformer import Transformer


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
    objective: Objective | None = None, progress: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The loss of one batch (a scalar), and its unweighted terms by name (detached scalars).

    `objective` holds the networks of the terms beside the velocity's; `progress` in [0, 1] is how far the run is.
    """
    device = next(transformer.parameters()).device
    x0, random = batch.images.to(device, non_blocking=True), random.to(device)
    text = _encode(text_encoder, batch, random.drop, device)
    x_t = flow.interpolate(x0, random.noise, random.t)
    if objective is not None and objective.source is not None:
        loss = distillation.loss(transformer, text, objective.source, batch.captions, x_t, random.t, config)
        return loss, {"distillation": loss.detach()}
    weights = losses.weights(config, progress)
    layer = config.alignment.layer if "alignment" in weights else None
    prediction = transformer(x_t, random.t, text, random.visible, layer, random.path_drop)
    terms = losses.compute(prediction, x0, x_t, random.t, objective, config, set(weights))
    loss = sum((weights[name] * term for name, term in terms.items()), start=torch.zeros((), device=device))
    return loss, {name: term.detach() for name, term in terms.items()}


def _encode(text_encoder: TextEncoder, batch: Batch, drop: Tensor, device: torch.device) -> TextTokens:
    """Tokens of the batch's captions, of the empty one where it is dropped; from the data where they hold features."""
    if batch.text is None:
        return text_encoder(["" if d else c for c, d in zip(batch.captions, drop.tolist(), strict=True)])
    empty = text_encoder([""])
    nothing = empty.embeddings[0][empty.mask[0]].to("cpu")
    text = TextTokens.of([nothing if d else row for row, d in zip(batch.text, drop.tolist(), strict=True)])
    return TextTokens(text.embeddings.to(device, non_blocking=True), text.mask.to(device), text.padded)


def clip_and_step(
    parameters: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], clip_norm: float, lr_factor: float
) -> Tensor:
    """Clips the gradients to `clip_norm`, applies one update at `lr_factor` times the base rates, clears them.

    Returns the gradients' norm before clipping. Where it is not finite, nothing is applied.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    if torch.isfinite(norm):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * lr_factor
            optimizer.step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return norm
