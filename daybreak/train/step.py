"""One training step, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.data.batch import Batch
from daybreak.diffusion import flow
from daybreak.diffusion.times import sample_times
from daybreak.encoders.text import TextEncoder
from daybreak.losses.compute import velocity_loss
from daybreak.model.transformer import Transformer


@dataclass(frozen=True)
class StepRandomness:
    """Everything random in a step, drawn in one place, on the CPU, so that devices and resumes agree.

    noise [B, 3, H, W] with its scale, t [B], drop [B] bool (True where the caption is dropped).
    """

    noise: Tensor
    t: Tensor
    drop: Tensor

    @classmethod
    def draw(cls, shape: torch.Size, config: Config, generator: torch.Generator) -> StepRandomness:
        """For pictures of `shape` [B, 3, H, W]."""
        d = config.diffusion
        noise = d.noise_scale * torch.randn(shape, generator=generator)
        t = sample_times(shape[0], d.shift, generator)
        drop = torch.rand(shape[0], generator=generator) < d.p_uncond
        return cls(noise, t, drop)


def training_loss(
    transformer: Transformer, text_encoder: TextEncoder, batch: Batch, random: StepRandomness, config: Config
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch (a scalar), and its terms by name (detached scalars)."""
    device = next(transformer.parameters()).device
    x0, noise, t = (v.to(device, non_blocking=True) for v in (batch.images, random.noise, random.t))
    captions = ["" if drop else caption for caption, drop in zip(batch.captions, random.drop.tolist(), strict=True)]
    text = text_encoder(captions)
    x_t = flow.interpolate(x0, noise, t)
    prediction = transformer(x_t, t, text)
    per_picture = velocity_loss(prediction.x0, x0, x_t, t, config.diffusion.floor)  # [B]
    loss = per_picture.mean()
    return loss, {"velocity": loss.detach()}


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
