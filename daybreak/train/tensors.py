"""The tensors that training goes on with, under one flat set of names, as a checkpoint's `training/` holds them.

They lie in safetensors files, one a rank: each rank writes what it holds, through torch.distributed.checkpoint, and a
run on another number of ranks reads what it needs. No file is unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed import ProcessGroup

from daybreak.config import ConfigError
from daybreak.optim.adamw import AdamW
from daybreak.optim.muon import Muon, rows_like
from daybreak.parallel import is_sharded
from daybreak.train.trainee import Trainee

warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is meant, in a process of its own

FOLDER = "training"
ALONE = "shard-00001-model-00001-of-00001.safetensors"
"""The file of one process, as torch.distributed.checkpoint names it."""
SCALER = ("scale", "_growth_tracker")
STATES: dict[type, set[str]] = {Muon: {"momentum", "row_square", "step"}, AdamW: {"step", "exp_avg", "exp_avg_sq"}}
"""What our optimisers keep of a parameter."""


def write_errors() -> tuple[type[BaseException], ...]:
    """What a failed write raises; CheckpointException is no Exception."""
    from torch.distributed.checkpoint.api import CheckpointException

    return OSError, SafetensorError, CheckpointException


def flat(trainee: Trainee) -> dict[str, Tensor]:
    """What the trainee names, optimizer.PART.NAME.KEY, generator, and the loss scaler's where there is one."""
    tensors = trainee.tensors()
    names: dict[Tensor, str] = {p: name for name, p in trainee.named_parameters().items()}
    for optimizer in trainee.optimizers:
        for parameter, values in optimizer.state.items():
            for key, value in values.items():
                tensors |= _plain(f"optimizer.{names[parameter]}.{key}", value)
    tensors["generator"] = trainee.generator.get_state()
    if trainee.scaler is not None:
        held = trainee.scaler.state_dict()
        tensors |= {f"scaler.{k}": torch.tensor(float(held[k])) for k in SCALER if k in held}
    return {k: v.detach() for k, v in tensors.items()}


def _plain(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor, or of one of torchao's, which are made of several, the plain ones."""
    if is_sharded(tensor) or not hasattr(tensor, "__tensor_flatten__"):
        return {name: tensor}
    parts, _ = tensor.__tensor_flatten__()
    return {f"{name}.{part}": getattr(tensor, part) for part in parts}


def write(trainee: Trainee, folder: Path, group: ProcessGroup | None) -> Callable[[], Any]:
    """Copies the tensors as they are now, so that training may go on, and returns what writes them or waits for it.

    Called by every rank of `group`; None: this process alone.
    """
    if group is None:
        # Contiguous, as safetensors stores them; kernels of convolutions lie with their channels last. Without torch's
        # writer, which makes plans of every tensor by itself: most of the time where they are many and small.
        tensors = {k: v.to("cpu", copy=True).contiguous() for k, v in flat(trainee).items()}
        return lambda: save_file(tensors, folder / ALONE, {"format": "pt"})
    from torch.distributed import checkpoint as dcp  # here: a run should not wait for it before its first step

    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    # What is on a GPU is copied by async_save; what is on the CPU would be written while it changes.
    tensors = {
        k: v.clone().contiguous() if v.device.type == "cpu" else v.contiguous() for k, v in flat(trainee).items()
    }
    future = dcp.async_save(tensors, storage_writer=writer, process_group=group)
    assert isinstance(future, Future)
    return future.result


def read(trainee: Trainee, folder: Path) -> None:
    """Fills `trainee` with what any number of ranks wrote. ConfigError where it is damaged or does not fit."""
    from torch.distributed import checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(folder))
    try:
        stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
        _prepare_optimizers(trainee, stored, folder)
        tensors = flat(trainee)
        missing = [k for k in tensors if k not in stored]
        wrong = [k for k, v in tensors.items() if k in stored and tuple(stored[k].size) != tuple(v.shape)]
        unknown = [k for k in stored if k not in tensors and not k.startswith("average.")]
        if missing or wrong or unknown:
            raise ConfigError(
                f"{folder} does not fit the config: missing {missing[:2] or 'none'}, unknown or of another shape "
                f"{(unknown + wrong)[:2] or 'none'}"
            )
        dcp.load(tensors, storage_reader=reader, no_dist=not torch.distributed.is_initialized())
    except (*write_errors(), KeyError, ValueError, RuntimeError) as e:
        if isinstance(e, ConfigError):
            raise
        raise ConfigError(f"{folder} is damaged: {' '.join(str(e).split())[:200]}") from None
    trainee.generator.set_state(tensors["generator"].cpu())
    if trainee.scaler is not None and "scaler.scale" in tensors:
        held = {k: tensors[f"scaler.{k}"].item() for k in SCALER}
        trainee.scaler.load_state_dict(trainee.scaler.state_dict() | held)


def _prepare_optimizers(trainee: Trainee, stored: dict[str, Any], folder: Path) -> None:
    """Gives every optimiser the state tensors that the checkpoint holds, to be filled."""
    by_parameter: dict[str, dict[str, Any]] = {}
    for name, about in stored.items():
        if name.startswith("optimizer."):
            parameter, _, key = name.removeprefix("optimizer.").rpartition(".")
            by_parameter.setdefault(parameter, {})[key] = about
    names: dict[Tensor, str] = {p: name for name, p in trainee.named_parameters().items()}
    for optimizer in trainee.optimizers:
        own = STATES.get(type(optimizer))
        optimizer.state.clear()
        if own is None:
            _step_in_place(optimizer)
            continue
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            about = by_parameter.get(names[parameter], {})
            if not about.keys() <= own:
                raise ConfigError(
                    f"{folder} does not fit the config: {names[parameter]} was trained by another optimiser "
                    f"(its state is {', '.join(about)}); see optim.matrices"
                )
            for key in about:
                optimizer.state[parameter][key] = _empty(parameter, key)


def _step_in_place(optimizer: torch.optim.Optimizer) -> None:
    """Has an optimiser of another library make its state itself, by a step of the rate 0."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
        rate, group["lr"] = group["lr"], torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
        group["before"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group in optimizer.param_groups:
        group["lr"] = group.pop("before")


def _empty(parameter: Tensor, key: str) -> Tensor:
    if key == "step":
        return torch.zeros((), dtype=torch.float32)
    return rows_like(parameter) if key == "row_square" else torch.zeros_like(parameter)
