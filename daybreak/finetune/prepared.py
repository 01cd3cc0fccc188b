"""The base, prepared for its method: what of it is trained, its averages, and drawing with them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from daybreak.config import Config, ConfigError
from daybreak.extras import require
from daybreak.finetune.adapters import inject_alike
from daybreak.finetune.bases import base_of
from daybreak.finetune.cpu_attention import attend_as_ours
from daybreak.finetune.families import Family, family_of
from daybreak.finetune.frozen_weights import freeze
from daybreak.finetune.methods import Averages, Trained, make_trainable, resting
from daybreak.finetune.offloaded import offload
from daybreak.finetune.process import Process, process_of
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes, side_step
from daybreak.optim.adamw import AdamW
from daybreak.parallel import full
from daybreak.train.distributed import spread
from daybreak.train.precision import multiplies_bfloat16

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass
class Prepared:
    """side: of the square that has the pictures' number of pixels. dtype: of the forward pass; trained weights stay
    float32. rests: whether what is not trained takes no part in a step.
    """

    settings: FinetuneSettings
    family: Family
    process: Process
    trained: Trained
    averages: Averages
    device: torch.device
    dtype: torch.dtype
    side: int
    rests: bool = True

    @property
    def shapes(self) -> Shapes:
        """Which shape each training picture gets."""
        s = self.settings
        if s.square:
            return Shapes.squares(self.side)
        step = side_step(self.family.multiple, self.family.step, self.side)
        return Shapes(self.side, step, s.max_ratio, s.upscale, longest=self.family.longest)

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Within, everything is on the device, with the averaged weights; afterwards what training needs not is off."""
        self.family.pipeline.to(self.device)
        averaged = self.averages.in_place() if self.settings.ema else torch.no_grad()
        try:
            with averaged, self.autocast():
                yield
        finally:
            self.rest()

    def autocast(self) -> torch.autocast:
        """The precision of the forward pass."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def shard(self, config: Config, mesh: DeviceMesh | None) -> None:
        """Spreads the denoiser over processes, except where one word alone is trained; to be called before training."""
        if mesh is None or self.settings.token is not None:
            return
        for flag, given in (
            ("--base-weights", self.settings.base_weights != "plain"),
            ("--offload", self.settings.offload),
        ):
            if given:
                raise ConfigError(f"{flag} is for one process: several share the base out among them")
        spread([self.family.network], config, mesh, self.device)
        self._rebind()

    def gather(self) -> None:
        """Puts a denoiser that was spread together again, at every process, on the CPU, averages and all."""
        network, family = self.family.network, self.family
        weights = {k: full(v).cpu() for k, v in network.state_dict().items()}
        averages = {k: full(v).cpu() for k, v in self.averages.tensors.items()}
        with torch.device("meta"):
            whole = family.another()
            if self.settings.low_rank:
                inject_alike(network, whole)
        for name, parameter in whole.named_parameters():
            parameter.requires_grad_(dict(network.named_parameters())[name].requires_grad)
        whole.load_state_dict(weights, assign=True)
        setattr(family.pipeline, family.denoiser, whole)
        self.trained.networks = [whole if n is network else n for n in self.trained.networks]
        self._rebind()
        self.averages.tensors = averages

    def _rebind(self) -> None:
        """Finds the trained parameters of the denoiser again, after they have been replaced."""
        part = self.family.denoiser
        own = {f"{part}.{n}": p for n, p in self.family.network.named_parameters()}
        self.trained.parameters = {k: own.get(k, p) for k, p in self.trained.parameters.items()}
        self.averages = Averages(self.trained, self.settings.ema)

    def rest(self) -> None:
        """Moves off a GPU what neither trains nor takes part in a step: the text encoders, whose words are cached, and
        the autoencoder."""
        if self.device.type == "cpu" or not self.rests:
            return
        for part in resting(self.family, self.settings):
            part.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def leave(self) -> Any:
        """Moves all off a GPU, and opens the base as it was, there, its weights kept as those of the trained one."""
        if self.device.type != "cpu":
            for part in self.family.parts():
                if not (self.settings.offload and part is self.family.network):  # of which little is there
                    part.to("cpu")
        family = family_of(base_of(self.settings, self.dtype), self.settings.base)
        if self.settings.base_weights != "plain":
            freeze(family.network, self.settings.base_weights)
        if self.settings.offload:
            offload(family.network.requires_grad_(False), self.device)
        return family.pipeline.to(self.device)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW (beta 0.9, 0.999); with its two moments in 8 bits where asked for. The text encoder has its own rate.

        Raises RuntimeError for a trained parameter that is in neither group.
        """
        settings, named = self.settings, self.trained.parameters
        denoiser = {n: p for n, p in named.items() if n.startswith((f"{self.family.denoiser}.", "token."))}
        text = {n: p for n, p in named.items() if n.startswith(tuple(f"{n}." for n in self.family.text_encoders))}
        if left := sorted(named.keys() - denoiser.keys() - text.keys()):
            raise RuntimeError(f"no optimiser takes {left[0]}, and {len(left) - 1} other parameters")
        groups = [{"params": list(denoiser.values()), "base_lr": settings.learning_rate}]
        if text:
            groups.append({"params": list(text.values()), "base_lr": settings.text_lr or settings.learning_rate})
        decay = 0.0 if settings.token else settings.weight_decay
        options: dict[str, Any] = {"lr": settings.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
        if settings.adam_8bit:
            make = require("torchao.optim", "quant", "--adam-8bit").AdamW8bit
            return make(groups, **options, weight_decay=decay)
        return AdamW(groups, **options, weight_decay=decay)


def open_prepared(settings: FinetuneSettings, device: torch.device) -> Prepared:
    """The base, on the CPU. ConfigError for what cannot work."""
    if settings.adam_8bit:
        require("torchao.optim", "quant", "--adam-8bit")
    dtype = compute_dtype(settings.precision, device)
    low = device.type == "cuda" and settings.method != "full"
    pipeline = base_of(settings, dtype if low else torch.float32)
    if low and hasattr(pipeline, "vae"):
        pipeline.vae.float()  # SDXL's overflows in float16, and it works once
    family = family_of(pipeline, settings.base)
    process = process_of(pipeline, settings)
    if settings.base_weights != "plain":
        freeze(family.network, settings.base_weights)
    torch.manual_seed(settings.seed)  # what adapters begin with
    trained = make_trainable(family, settings)
    averages = Averages(trained, settings.ema)
    if device.type == "cpu":
        attend_as_ours(family.network)
    if settings.offload:
        offload(family.network, device)
    return Prepared(settings, family, process, trained, averages, device, dtype, side_of(family, settings))


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Of the forward pass: bfloat16 where the hardware multiplies it, unless told otherwise."""
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    if precision == "float16" and device.type != "cuda":
        raise ConfigError("--precision float16 needs a GPU; on a CPU float32 is right")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def side_of(family: Family, settings: FinetuneSettings) -> int:
    """Side of the square whose pixels training pictures have, px. ConfigError where it does not divide."""
    side = settings.resolution or family.resolution
    if side % family.multiple:
        near = max(1, round(side / family.multiple)) * family.multiple
        raise ConfigError(
            f"--resolution {side} does not divide by {family.multiple}, as {settings.base} needs; {near} does"
        )
    return side
