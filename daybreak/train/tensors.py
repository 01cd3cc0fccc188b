"""The tensors that training goes on with, under one flat set of names, as a checkpoint's `training/` holds them.

They go through torch.distributed.checkpoint into safetensors files, one a rank: each rank writes what it holds, and a
run on another number of ranks reads what it needs. No file is unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException

from daybreak.config import ConfigError
from daybreak.optim.muon import Muon, rows_like
from daybreak.train.state import TrainState

warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is meant, in a process of its own

FOLDER = "training"
WRITE_ERRORS = (OSError, SafetensorError, CheckpointException)
"""What a failed write raises; CheckpointException is no Exception."""


def flat(state: TrainState) -> dict[str, Tensor]:
    """weights.PART.NAME, optimizer.PART.NAME.KEY, average.LENGTH.PART.NAME and generator."""
    tensors = {f"weights.{k}": v for k, v in _weights(state).items()}
    names = _parameter_names(state)
    for optimizer in state.optimizers:
        for parameter, values in optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{k}": v for k, v in values.items()}
    if state.power_averages is not None:
        for length, average in state.power_averages.tensors.items():
            tensors |= {f"average.{length:g}.{k}": v for k, v in average.items()}
    tensors["generator"] = state.generator.get_state()
    return {k: v.detach() for k, v in tensors.items()}


def write(state: TrainState, folder: Path, group: ProcessGroup | None) -> Callable[[], Any]:
    """Copies the tensors as they are now, so that training may go on, and returns what writes them or waits for it.

    Called by every rank of `group`; None: this process alone.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    if group is None:
        # Contiguous, as safetensors stores them; kernels of convolutions lie with their channels last.
        tensors = {k: v.to("cpu", copy=True).contiguous() for k, v in flat(state).items()}
        return lambda: dcp.save(tensors, storage_writer=writer, no_dist=True)
    # What is on a GPU is copied by async_save; what is on the CPU would be written while it changes.
    tensors = {k: v.clone().contiguous() if v.device.type == "cpu" else v.contiguous() for k, v in flat(state).items()}
    future = dcp.async_save(tensors, storage_writer=writer, process_group=group)
    assert isinstance(future, Future)
    return future.result


def read(state: TrainState, folder: Path) -> None:
    """Fills `state` with what any number of ranks wrote. ConfigError where it is damaged or does not fit."""
    reader = HuggingFaceStorageReader(str(folder))
    try:
        stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
        _prepare_optimizers(state, stored, folder)
        tensors = flat(state)
        missing = [k for k in tensors if k not in stored]
        wrong = [k for k, v in tensors.items() if k in stored and tuple(stored[k].size) != tuple(v.shape)]
        unknown = [k for k in stored if k not in tensors and not k.startswith("average.")]
        if missing or wrong or unknown:
            raise ConfigError(
                f"{folder} does not fit the config: missing {missing[:2] or 'none'}, unknown or of another shape "
                f"{(unknown + wrong)[:2] or 'none'}"
            )
        dcp.load(tensors, storage_reader=reader, no_dist=not torch.distributed.is_initialized())
    except (*WRITE_ERRORS, KeyError, ValueError, RuntimeError) as e:
        if isinstance(e, ConfigError):
            raise
        raise ConfigError(f"{folder} is damaged: {' '.join(str(e).split())[:200]}") from None
    state.generator.set_state(tensors["generator"].cpu())


def _weights(state: TrainState) -> dict[str, Tensor]:
    """Trained weights by part and name; tied ones once."""
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for part, module in state.trained_modules().items():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{part}.{name}"] = tensor
    return found


def _parameter_names(state: TrainState) -> dict[Tensor, str]:
    return {p: f"{part}.{n}" for part, m in state.trained_modules().items() for n, p in m.named_parameters()}


def _prepare_optimizers(state: TrainState, stored: dict[str, Any], folder: Path) -> None:
    """Gives every optimiser the state tensors that the checkpoint holds, to be filled."""
    by_parameter: dict[str, dict[str, Any]] = {}
    for name, about in stored.items():
        if name.startswith("optimizer."):
            parameter, _, key = name.removeprefix("optimizer.").rpartition(".")
            by_parameter.setdefault(parameter, {})[key] = about
    names = _parameter_names(state)
    for optimizer in state.optimizers:
        own = {"momentum", "row_square"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
        optimizer.state.clear()
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            about = by_parameter.get(names[parameter], {})
            if not about.keys() <= own:
                raise ConfigError(
                    f"{folder} does not fit the config: {names[parameter]} was trained by another optimiser "
                    f"(its state is {', '.join(about)}); see optim.matrices"
                )
            for key in about:
                optimizer.state[parameter][key] = _empty(parameter, key)


def _empty(parameter: Tensor, key: str) -> Tensor:
    if key == "step":
        return torch.zeros((), dtype=torch.float32)
    return rows_like(parameter) if key == "row_square" else torch.zeros_like(parameter)
