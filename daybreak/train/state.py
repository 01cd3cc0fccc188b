"""What a run consists of at a moment: networks, their averages, optimisers, generator, position, clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.encoders.open_text import open_text_encoder
from daybreak.encoders.text import TextEncoder
from daybreak.losses.objective import Objective
from daybreak.model.transformer import Transformer
from daybreak.optim.groups import build_optimizers
from daybreak.parallel import full
from daybreak.train.distributed import computing, spread
from daybreak.train.ema import averaged_copy
from daybreak.train.phema import PowerAverages, named_tensors
from daybreak.train.precision import muon_dtype

CAPTIONS_FOR_TOKENIZER = 20_000


@dataclass
class TrainState:
    """Everything that a step reads and changes.

    `average` and `average_text` are the averaged networks (`average_text` is `text_encoder` itself where that is
    frozen). `objective` holds the losses' networks. `generator` (CPU) is the one source of a step's randomness.
    `power_averages` are kept for `daybreak average` where the config asks for them. `step` counts updates, `position`
    samples, `seconds` the training time used; `progress` is the share of the budget used. `losses` holds those of the
    last steps, by which the next one is judged; `skipped_steps` counts steps that were not applied, `rollbacks` returns
    to an earlier checkpoint. `durations`: seconds that recurring work took, by name.
    """

    transformer: Transformer
    text_encoder: TextEncoder
    average: Transformer
    average_text: TextEncoder
    optimizers: list[torch.optim.Optimizer]
    generator: torch.Generator
    objective: Objective
    power_averages: PowerAverages | None = None
    config: Config = field(default_factory=Config)
    step: int = 0
    position: int = 0
    seconds: float = 0.0
    progress: float = 0.0
    losses: list[float] = field(default_factory=list)
    skipped_steps: int = 0
    rollbacks: int = 0
    durations: dict[str, float] = field(default_factory=dict)

    @classmethod
    def create(cls, config: Config, source: Source, device: torch.device, mesh: DeviceMesh | None = None) -> TrainState:
        """A new run: random weights from `train.seed`, a tokenizer trained on the source's captions."""
        torch.manual_seed(config.train.seed)
        text_encoder = open_text_encoder(config.text, lambda: source.some_captions(CAPTIONS_FOR_TOKENIZER))
        transformer = Transformer(config.model, text_encoder.width, config.routing)
        return cls.around(transformer, text_encoder, config, device, mesh)

    @classmethod
    def around(
        cls, transformer: Transformer, text_encoder: TextEncoder, config: Config, device: torch.device,
        mesh: DeviceMesh | None = None,
    ) -> TrainState:  # fmt: skip
        """A run that starts from these networks, which every rank of `mesh` holds alike and which are sharded here."""
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

    @property
    def sharded(self) -> bool:
        """Whether the networks are spread over several processes."""
        return isinstance(next(self.transformer.parameters()), DTensor)

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

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters."""
        return [p for module in self.trained_modules().values() for p in module.parameters()]

    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.parameters())
