"""How noise is added and what the network has to say of it: discrete (epsilon, v) or flow, as the base has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.diffusion import flow, vp
from daybreak.diffusion.times import sample_times
from daybreak.finetune.settings import FinetuneSettings
from daybreak.model_folder import PIPELINE

FLOOR = 0.05
"""Least divisor of t where the network predicts x0, as PRXPixelPipeline has it."""


class Process(Protocol):
    """Noise levels `t` [B] are steps 0..T-1 or times in (0, 1); higher is noisier."""

    @property
    def noise_scale(self) -> float:
        """Deviation of the noise."""
        ...

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """[n] training noise levels."""
        ...

    def at(self, level: float, n: int) -> Tensor:
        """[n] times the noise level at the share `level` in [0, 1] of all of them."""
        ...

    def level(self, t: Tensor) -> Tensor:
        """[B] in [0, 1]: the inverse of `at`."""
        ...

    def interpolate(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        ...

    def squared_error(
        self, output: Tensor, x0: Tensor, noise: Tensor, t: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """[B] mean squared error of the network's output, weighted as the settings ask.

        weights [B, 1, h, w]: by which each place's error is multiplied.
        """
        ...

    def to_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The clean picture that the output implies."""
        ...


@dataclass(frozen=True)
class VariancePreserving:
    """Stable Diffusion's discrete process. abar [T]; predicts: the noise or v; min_snr: gamma or None."""

    abar: Tensor
    predicts: vp.Predicts
    min_snr: float | None = None
    noise_scale: float = 1.0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Even over the steps."""
        return torch.randint(0, len(self.abar), (n,), generator=generator)

    def at(self, level: float, n: int) -> Tensor:
        """See `Process`."""
        return torch.full((n,), min(len(self.abar) - 1, int(level * len(self.abar))))

    def level(self, t: Tensor) -> Tensor:
        """See `Process`."""
        return (t + 0.5) / len(self.abar)

    def interpolate(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Process`."""
        return vp.interpolate(x0, noise, self._abar(t))

    def squared_error(
        self, output: Tensor, x0: Tensor, noise: Tensor, t: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """See `Process`."""
        abar = self._abar(t)
        target = noise if self.predicts == "epsilon" else vp.velocity(x0, noise, abar)
        error = _mean_square(output.float() - target, weights)
        return error if self.min_snr is None else error * vp.min_snr_weight(abar, self.min_snr, self.predicts)

    def to_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """See `Process`."""
        return vp.to_x0(x_t, output, self._abar(t), self.predicts)

    def _abar(self, t: Tensor) -> Tensor:
        return self.abar.to(t.device)[t]


@dataclass(frozen=True)
class Flow:
    """The straight path (flow matching); times logit-normal, then shifted. predicts: velocity, or x0 (PRX's pixels)."""

    shift: float
    predicts: Literal["velocity", "x0"] = "velocity"
    noise_scale: float = 1.0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """As SD 3 trains (arXiv 2403.03206, section 3.1)."""
        return sample_times(n, self.shift, generator)

    def at(self, level: float, n: int) -> Tensor:
        """See `Process`."""
        return torch.full((n,), max(level, 1e-3))

    def level(self, t: Tensor) -> Tensor:
        """See `Process`."""
        return t

    def interpolate(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """See `Process`."""
        return flow.interpolate(x0, noise, t)

    def squared_error(
        self, output: Tensor, x0: Tensor, noise: Tensor, t: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """See `Process`."""
        if self.predicts == "x0":
            x_t = flow.interpolate(x0, noise, t)
            error = flow.velocity(x_t, output.float(), t, FLOOR) - flow.velocity(x_t, x0, t, FLOOR)
        else:
            error = output.float() - (noise - x0)
        return _mean_square(error, weights)

    def to_x0(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """See `Process`."""
        return output if self.predicts == "x0" else flow.to_x0(x_t, output, t, 0.0)


def _mean_square(error: Tensor, weights: Tensor | None) -> Tensor:
    """[B, C, h, w] -> [B]: the mean square, of each place times its weight."""
    square = error.square()
    return (square if weights is None else square * weights).mean(dim=(1, 2, 3))


def process_of(pipeline: Any, settings: FinetuneSettings) -> Process:
    """The base's own process, with what the settings change. ConfigError for what does not go together."""
    from diffusers import DDPMScheduler

    if type(pipeline).__name__ == PIPELINE:
        _refuse_for_flow(settings)
        return Flow(float(pipeline.config.shift), "x0", float(pipeline.config.noise_scale))
    scheduler = pipeline.scheduler.config
    if "num_train_timesteps" in scheduler and "beta_start" in scheduler:
        predicts = scheduler.get("prediction_type", "epsilon")
        if predicts not in ("epsilon", "v_prediction"):
            raise ConfigError(f"{settings.base} predicts {predicts!r}; epsilon, v_prediction and flow are known")
        steps: Any = DDPMScheduler.from_config(scheduler)
        abar = steps.alphas_cumprod.float()
        if settings.zero_snr:
            if predicts == "epsilon":
                raise ConfigError(
                    f"--zero-snr ends in pure noise, of which {settings.base}, which predicts the noise, learns "
                    "nothing: it needs a base with v-prediction, such as Stable Diffusion 2.1"
                )
            abar = vp.zero_terminal_snr(abar)
        return VariancePreserving(abar, predicts, settings.min_snr)
    _refuse_for_flow(settings)
    if type(pipeline).__name__ == "PRXPixelPipeline":
        return Flow(float(scheduler.get("shift", 1.0)), "x0", float(pipeline.config.noise_scale))
    return Flow(float(scheduler.get("shift", 1.0)))


def _refuse_for_flow(settings: FinetuneSettings) -> None:
    for flag, given in (("--min-snr", settings.min_snr is not None), ("--zero-snr", settings.zero_snr)):
        if given:
            raise ConfigError(f"{flag} is for epsilon- and v-prediction; {settings.base} is a flow model")
