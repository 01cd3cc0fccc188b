"""Flow-GRPO of a flow-matching model of diffusers, and of an adapter of one of our own (rolling.py)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from daybreak.finetune.drawing import AT_ONCE, guidance_of
from daybreak.finetune.flow_steps import flow_denoisers, own_times
from daybreak.finetune.methods import weights
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.pipeline import PreferringPipeline
from daybreak.prefer.ranking import Draw
from daybreak.prefer.rolling import Canvas, Rolling
from daybreak.prefer.rollout import Denoisers


@dataclass
class OnlinePipeline(Rolling, PreferringPipeline):
    """Draws what the base diffuses: latents, or pixels."""

    most = AT_ONCE
    _canvas: Canvas | None = field(default=None, kw_only=True)

    def taught(self) -> Lessons:
        """See `Rolling`."""
        return self.lessons

    def tensors(self) -> dict[str, Tensor]:
        """See `Trainee`; and rollout.NAME."""
        return super().tensors() | self.rolled()

    def canvas(self) -> Canvas:
        """See `Rolling`."""
        if self._canvas is None:
            base, side = self.base, self.base.side
            with torch.no_grad():
                row = base.family.rows(torch.zeros(1, 3, side, side, device=self.device))
                times = own_times(base.family, base.settings, side, self.lessons.settings.draw_steps)
            shape = (base.family.row_channels(row.shape[1]), row.shape[2], row.shape[3])
            self._canvas = Canvas(shape, base.process.noise_scale, side, times)
        return self._canvas

    def denoisers(self) -> Denoisers:
        """See `Rolling`."""
        return flow_denoisers(self.base.family, self.base.process, self._guidance())

    @contextmanager
    def as_reference(self) -> Generator[Denoisers]:
        """See `Rolling`."""
        with weights(self.base.trained, self.reference):
            yield self.denoisers()

    def decode(self, x: Tensor) -> Tensor:
        """See `Rolling`."""
        return self.base.family.decode(x)

    def draw_before(self) -> Draw:
        """See `Rolling`."""
        return self.draw_reference()

    def _guidance(self) -> float:
        """Of --guidance, else that with which samples are drawn."""
        chosen = self.lessons.settings.guidance
        return guidance_of(self.base.family.pipeline, self.settings) if chosen is None else chosen
