"""What a fine-tuning run consists of at a moment, and saving it whole.

RUN/checkpoints/step-00001200/
    trained.safetensors   what is trained, by name
    averaged.safetensors  its averages
    optimizer.pt          optimiser, loss scale and generator (tensors and numbers only)
    state.json            step, seconds, what was measured at the start
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.files import whole_folder
from daybreak.finetune.families import Family
from daybreak.finetune.methods import Averages, Trained
from daybreak.finetune.process import Process
from daybreak.finetune.settings import FinetuneSettings
from daybreak.train.precision import multiplies_bfloat16

KEEP = 2
"""Checkpoints that stay."""


@dataclass
class State:
    """dtype: of the forward pass. generator (CPU): of all randomness of the steps. start: probe losses of the base."""

    settings: FinetuneSettings
    family: Family
    process: Process
    trained: Trained
    averages: Averages
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    device: torch.device
    dtype: torch.dtype
    step: int = 0
    seconds: float = 0.0
    start: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Within, everything is on the device, with the averaged weights; afterwards what training needs not is off."""
        pipeline = self.family.pipeline.to(self.device)
        averaged = self.averages.in_place() if self.settings.ema else torch.no_grad()
        try:
            with averaged, self.autocast():
                yield
        finally:
            if self.device.type == "cuda":
                self._rest(pipeline)

    def autocast(self) -> torch.autocast:
        """The precision of the forward pass; trained weights stay float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _rest(self, pipeline: Any) -> None:
        """Moves off the device what neither trains nor takes part in a step."""
        working = {id(self.family.network), *map(id, self.trained.networks)}
        for part in pipeline.components.values():
            if isinstance(part, nn.Module) and id(part) not in working:
                part.to("cpu")
        torch.cuda.empty_cache()


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Of the forward pass: bfloat16 where the hardware multiplies it, unless told otherwise."""
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    if precision == "float16" and device.type != "cuda":
        raise ConfigError("--precision float16 needs a GPU; on a CPU float32 is right")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def make_optimizer(trained: Trained, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """AdamW (beta 0.9, 0.999); with its two moments in 8 bits where asked for. The text encoder has its own rate."""
    denoiser = [p for n, p in trained.parameters.items() if n.startswith(("unet.", "transformer.", "token."))]
    text = [p for n, p in trained.parameters.items() if n.startswith("text_encoder")]
    groups = [{"params": denoiser, "base_lr": settings.learning_rate}]
    if text:
        groups.append({"params": text, "base_lr": settings.text_lr or settings.learning_rate})
    decay = 0.0 if settings.token else settings.weight_decay
    options: dict[str, Any] = {"lr": settings.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": decay}
    if settings.adam_8bit:
        return require("torchao.optim", "quant", "--adam-8bit").AdamW8bit(groups, **options)
    return torch.optim.AdamW(groups, **options)


def save(state: State, run: Path) -> Path:
    """Writes a checkpoint under a temporary name, renames it, then removes old ones. Returns its folder."""
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    with whole_folder(folder) as building:
        for name, tensors in (("trained", state.trained.parameters), ("averaged", state.averages.tensors)):
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, building / f"{name}.safetensors")
        rest = {
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "generator": state.generator.get_state(),
        }
        torch.save(rest, building / "optimizer.pt")
        numbers = {"step": state.step, "seconds": state.seconds, "start": state.start}
        (building / "state.json").write_text(json.dumps(numbers))
    for old in complete(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def complete(run: Path) -> list[Path]:
    """The run's complete checkpoints, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.suffix != ".incomplete")


def newest(run: Path) -> Path:
    """The newest checkpoint; ConfigError where there is none."""
    if not (found := complete(run)):
        raise ConfigError(f"{run} holds no checkpoint (looked for checkpoints/step-*)")
    return found[-1]


def restore(state: State, run: Path) -> None:
    """Brings `state`, freshly made from the same settings, to what `save` wrote, to the bit. ConfigError where it
    does not fit or is damaged."""
    folder = newest(run)
    try:
        for name, target in (("trained", state.trained.parameters), ("averaged", state.averages.tensors)):
            stored = load_file(folder / f"{name}.safetensors")
            if stored.keys() != target.keys():
                odd = sorted(stored.keys() ^ target.keys())[0]
                raise ConfigError(f"{folder}: {name}.safetensors does not fit the settings (such as {odd})")
            for key, tensor in target.items():
                tensor.data.copy_(stored[key])
        rest = torch.load(folder / "optimizer.pt", map_location=state.device, weights_only=True)
        rates = [group["base_lr"] for group in state.optimizer.param_groups]
        state.optimizer.load_state_dict(rest["optimizer"])
        for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
            group["base_lr"] = rate  # the settings' rate, should it have been changed for the continuation
        state.scaler.load_state_dict(rest["scaler"])
        state.generator.set_state(rest["generator"].cpu())
        numbers = json.loads((folder / "state.json").read_text())
        state.step, state.seconds, state.start = numbers["step"], numbers["seconds"], numbers["start"]
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError) as e:
        raise ConfigError(f"{folder} is damaged: {' '.join(str(e).split())[:200]}") from None
