"""What a run trains: all that the loop asks of it, and where the run stands, since a checkpoint holds both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from daybreak.config import Config
from daybreak.data.batch import Source
from daybreak.parallel import Ranks, is_sharded, local, part_of
from daybreak.train.meters import NoiseLevels
from daybreak.train.watch import MetricsRecord, StepRecord

NUMBERS = ("step", "position", "seconds", "progress", "losses", "skipped_steps", "rollbacks", "durations")
"""Fields of every trainee that state.json holds."""


@dataclass(frozen=True)
class Samples:
    """What was drawn while a run trains. followed: share of prompts followed, where the data can tell.

    seconds: of one picture; inside: files of what goes on inside, by what they show; probes: what was measured beside.
    asked: files of the pictures of prompts that the run was asked for, by their prompts.
    """

    followed: float | None = None
    seconds: float = 0.0
    inside: Mapping[str, Path] = field(default_factory=dict)
    probes: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, Path] = field(default_factory=dict)


class Rows(Protocol):
    """A batch, or what is random in its step: parts of it are taken by the numbers of their pictures."""

    def rows(self, rows: slice, /) -> Any:
        """Some of them."""
        ...


@dataclass
class Trainee(ABC):
    """losses: the last hundred, which the guard goes by. durations: of what the run does between its steps, seconds."""

    config: Config
    optimizers: list[torch.optim.Optimizer]
    generator: torch.Generator
    step: int = field(default=0, kw_only=True)
    position: int = field(default=0, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)
    progress: float = field(default=0.0, kw_only=True)
    losses: list[float] = field(default_factory=list, kw_only=True)
    skipped_steps: int = field(default=0, kw_only=True)
    rollbacks: int = field(default=0, kw_only=True)
    durations: dict[str, float] = field(default_factory=dict, kw_only=True)

    numbers: ClassVar[tuple[str, ...]] = NUMBERS
    go_on: str = field(default="daybreak train --resume", kw_only=True)
    """The command that continues a run."""
    knows_others: bool = field(default=False, kw_only=True)
    """Whether it starts from weights that have learnt from other captions than the run's."""
    calmer: ClassVar[str] = "a lower optim.muon_lr and optim.adam_lr, or train.precision=float32"
    """What to try where steps are not finite."""
    smaller: ClassVar[str] = "model.recompute=true, or a smaller data.resolution"
    """What to try where one picture does not fit into the GPU's memory."""
    asks_for_trackers: ClassVar[str] = "train.trackers="
    """What asks for a tracker, up to its name."""
    begins_with_samples: ClassVar[bool] = False
    """Whether the first samples are drawn before the first step."""
    scaler: torch.amp.GradScaler | None = field(default=None, kw_only=True)
    """Of the loss, where it is float16."""

    remarks: Callable[[StepRecord | MetricsRecord], list[tuple[str, str]]] = field(default=lambda _: [], kw_only=True)
    """(name, text) of what the user should be told in view of a step, or of what was measured."""

    # What is trained.

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the networks are."""

    @abstractmethod
    def trained_modules(self) -> dict[str, nn.Module]:
        """The networks that are trained, by the name under which a checkpoint holds them."""

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, as PART.NAME."""
        found = {f"{k}.{n}": p for k, m in self.trained_modules().items() for n, p in m.named_parameters()}
        return {name: p for name, p in found.items() if p.requires_grad}

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters."""
        return list(self.named_parameters().values())

    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.parameters())

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over several processes."""
        return any(is_sharded(p) for p in self.parameters())

    # Data and steps.

    @abstractmethod
    def open_source(self, index: int) -> Source:
        """The data of stage `index`; after a return to a checkpoint they come in another order (`rollbacks`)."""

    @abstractmethod
    def enter(self, config: Config, source: Source) -> None:
        """Records the stage that begins: its settings and its data."""

    def parts(self, batch: Any, at_once: int) -> list[slice]:
        """Which pictures of a batch go through the network together: at most `at_once`, as many parts at all ranks."""
        return [slice(i, min(len(batch), i + at_once)) for i in range(0, len(batch), at_once)]

    @abstractmethod
    def random(self, batch: Any, config: Config) -> Rows:
        """All that is random in a step of a whole batch, of which `batch` is this process's share."""

    @abstractmethod
    def loss(
        self, batch: Any, random: Any, config: Config, progress: float, share: float,
        levels: NoiseLevels | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """What `batch`, the part `share` of this process's pictures of a step, adds to its loss: a scalar.

        Also the unweighted terms by name, detached: means over `batch`. levels: records the loss by noise level.
        """

    @abstractmethod
    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the forward pass."""

    @abstractmethod
    def update_averages(self) -> None:
        """Draws the averaged weights towards the trained ones, after step number `step` was applied."""

    @abstractmethod
    def prepare(self) -> None:
        """What makes the networks fast and changes nothing about them, once, before the first step."""

    def learning_rates(self) -> dict[str, float]:
        """By what has one."""
        return {type(o).__name__.lower(): float(o.param_groups[0]["lr"]) for o in self.optimizers}

    @abstractmethod
    def measured(self, batch: Any, speed: float, ranks: Ranks, watched: bool) -> dict[str, float]:
        """What a step tells beside its loss, by its name in TensorBoard. speed: pictures a second."""

    @abstractmethod
    def snapshot(self, run: Path, ranks: Ranks) -> None:
        """Keeps the averages as they are, where `train.posthoc_ema` asks for it. By every process."""

    # Pauses.

    @abstractmethod
    def draw(self, path: Path, ranks: Ranks, asked: Sequence[str] = ()) -> Samples:
        """Draws samples with the averaged weights into `path`, and what goes on inside beside it. By every process.

        asked: further prompts, drawn this once, each into a file of its own.
        """

    @abstractmethod
    def measure(self, run: Path) -> dict[str, float]:
        """The recipe's metrics (`evaluate.metrics`), of the averaged weights. By every process."""

    def pictures_at_end(self) -> tuple[int, int]:
        """Pictures drawn after training: those of which fewer are drawn where time is short, and the others."""
        return 0, 0

    # The run folder.

    @abstractmethod
    def save_settings(self, run: Path) -> None:
        """Writes the run's settings into its folder."""

    @abstractmethod
    def plain_settings(self) -> dict[str, Any]:
        """The run's settings as YAML has them, for trackers."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Weights and averages that training goes on with, by name; tied ones once."""

    @abstractmethod
    def write_drawing(self, folder: Path) -> Callable[[], None]:
        """Copies what drawing needs as it is now; what is returned writes it into a checkpoint's folder."""

    @abstractmethod
    def restore_drawing(self, folder: Path) -> None:
        """Brings back what `write_drawing` wrote."""

    def fill(self, own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> None:
        """Sets tensors of its own, sharded or not, from whole ones of the same names."""
        for name, tensor in own.items():
            local(tensor.detach()).copy_(part_of(whole[name].detach(), tensor))
