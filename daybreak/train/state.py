"""What a run consists of at a moment: networks, their averages, optimisers, generator, position, clock."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.encoders.text import TextEncoder
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import build_optimizers
from daybreak.train.ema import averaged_copy
from daybreak.train.precision import muon_dtype

CAPTIONS_FOR_TOKENIZER = 20_000


@dataclass
class TrainState:
    """Everything that a step reads and changes.

    `average` and `average_text` are the averaged networks. `generator` (CPU) is the one source of a step's
    randomness. `step` counts updates, `position` samples, `seconds` the training time used.
    """

    transformer: Transformer
    text_encoder: TextEncoder
    average: Transformer
    average_text: TextEncoder
    optimizers: list[torch.optim.Optimizer]
    generator: torch.Generator
    step: int = 0
    position: int = 0
    seconds: float = 0.0

    @classmethod
    def create(cls, config: Config, source: Source, device: torch.device) -> TrainState:
        """A new run: random weights from `train.seed`, a tokenizer trained on the source's captions."""
        torch.manual_seed(config.train.seed)
        text_encoder = TextEncoder.create(source.some_captions(CAPTIONS_FOR_TOKENIZER), config.text)
        return cls.around(Transformer(config.model, text_encoder.width), text_encoder, config, device)

    @classmethod
    def around(
        cls, transformer: Transformer, text_encoder: TextEncoder, config: Config, device: torch.device
    ) -> TrainState:
        """A run that starts from these networks."""
        transformer, text_encoder = transformer.to(device), text_encoder.to(device)
        return cls(
            transformer=transformer,
            text_encoder=text_encoder,
            average=averaged_copy(transformer),
            average_text=averaged_copy(text_encoder),
            optimizers=build_optimizers(transformer, text_encoder, config.optim, muon_dtype(device)),
            generator=torch.Generator().manual_seed(config.train.seed),
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.transformer.parameters()).device

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters."""
        return [*self.transformer.parameters(), *self.text_encoder.parameters()]

    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.parameters())
