"""One fine-tuning step, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from daybreak.finetune.families import Family, Text
from daybreak.finetune.process import Process


@dataclass(frozen=True)
class StepRandomness:
    """Everything random in a step, drawn on the CPU for the whole batch, so that micro-batches and devices agree.

    noise, posterior [B, C, h, w]: what is added, and what latents are drawn with, of which smaller pictures take a
    corner; t [B] noise levels; drop [B] bool: captions dropped; flip [B] bool: pictures mirrored.
    """

    noise: Tensor
    posterior: Tensor
    t: Tensor
    drop: Tensor
    flip: Tensor

    @classmethod
    def draw(
        cls, shape: tuple[int, ...], process: Process, drop_captions: float, offset_noise: float, flip: bool,
        generator: torch.Generator,
    ) -> StepRandomness:  # fmt: skip
        """For x0 of `shape` [B, C, h, w]. Offset noise shifts whole channels (Guttenberg 2023)."""
        noise = torch.randn(shape, generator=generator)
        if offset_noise:
            noise = noise + offset_noise * torch.randn((*shape[:2], 1, 1), generator=generator)
        return cls(
            noise=process.noise_scale * noise,
            posterior=torch.randn(shape, generator=generator),
            t=process.draw(shape[0], generator),
            drop=torch.rand(shape[0], generator=generator) < drop_captions,
            flip=(torch.rand(shape[0], generator=generator) < 0.5) & flip,
        )

    def rows(self, rows: slice | list[int]) -> StepRandomness:
        """Of some of the pictures."""
        return StepRandomness(self.noise[rows], self.posterior[rows], self.t[rows], self.drop[rows], self.flip[rows])


def squared_errors(
    family: Family, network: nn.Module, process: Process, rows: Tensor, text: Text, random: StepRandomness,
    weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """[B] loss of each picture; `rows` as `Family.rows` gives them, on the network's device; weights: of places."""
    device = rows.device
    height, width = rows.shape[-2:]
    noise, posterior = (n[..., :height, :width].to(device) for n in (random.noise, random.posterior))
    t = random.t.to(device)
    x0 = family.x0(rows, posterior)
    x_t = process.interpolate(x0, noise, t)
    output = family.predict(network, x_t, t, text)
    return process.squared_error(output, x0, noise, t, weights)
