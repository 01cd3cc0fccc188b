"""The processes of a run and how its networks are spread over them. The model does not know.

Started by torchrun, every process (rank) trains on its share of each batch. Weights, gradients, optimiser state and
averages are sharded by FSDP2 over `train.shard` ranks, the ranks of a node unless set, and copied where there are more
(HSDP). The order is: activations recomputed (`model.recompute`), compile, shard.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from daybreak.config import Config, ConfigError, at_stage
from daybreak.encoders.text import TextEncoder, TextTokens
from daybreak.model.transformer import Prediction, Transformer
from daybreak.parallel import Ranks
from daybreak.train.precision import lower_precision

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@contextmanager
def processes(
    config: Config, patience: timedelta = timedelta(0), batch: str = "train.batch"
) -> Generator[Ranks]:  # fmt: skip
    """The processes that torchrun started, joined; or this one alone.

    A rank that waits for another longer than `train.stall_minutes`, or `patience`, fails.
    Raises ConfigError where the batch, which `batch` sets, or the shards do not divide.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    shard = config.train.shard or min(world, int(os.environ.get("LOCAL_WORLD_SIZE", world)))
    _check_divides(config, world, shard, batch)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    limit = max(patience, timedelta(minutes=config.train.stall_minutes))
    # After a restart the store still holds the addresses of the dead: each attempt writes under a name of its own.
    store, rank, _ = next(distributed.rendezvous("env://", timeout=limit))
    store = distributed.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
    from torch.distributed.device_mesh import init_device_mesh  # half a second, which one process need not wait for

    try:
        device = "cuda" if cuda else "cpu"
        shape, names = ((world,), ("shard",)) if shard == world else ((world // shard, shard), ("replicate", "shard"))
        mesh = init_device_mesh(device, shape, mesh_dim_names=names)
        yield Ranks(distributed.get_rank(), world, mesh)
    finally:
        distributed.destroy_process_group()


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error comes from another rank that is gone, or has not answered in time."""
    words = ("gloo", "NCCL", "ncclRemoteError", "Connection closed", "Connection reset", "Timed out waiting")
    return isinstance(error, distributed.DistError) or any(w in str(error) for w in words)


def _check_divides(config: Config, world: int, shard: int, flag: str) -> None:
    for i in range(max(1, len(config.stages))):
        batch = at_stage(config, i).train.batch
        if batch % world:
            near = max(1, round(batch / world)) * world
            raise ConfigError(f"{flag} {batch} does not divide over {world} processes; {near} would")
    if world % shard:
        raise ConfigError(f"train.shard {shard} does not divide {world} processes")


def spread(networks: list[nn.Module], config: Config, mesh: DeviceMesh | None, device: torch.device) -> None:
    """Shards every network over `mesh`, its blocks first, which are compiled before where the config says so.

    Each rank must hold the same weights. Afterwards the parameters are DTensors. Without a mesh nothing happens.
    """
    if mesh is None:
        return
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    _register_outputs()
    bfloat16 = lower_precision(config, device)
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for network in networks:
        # A scalar cannot be shared out: every rank keeps it whole, and its gradients are averaged (parallel.py).
        scalars = {p for p in network.parameters() if p.ndim == 0}
        for parameter in network.parameters():  # kernels of convolutions lie with their channels last
            parameter.data = parameter.data.contiguous()
        for block in _blocks(network):
            if config.train.compile and any(p.requires_grad for p in block.parameters()):
                block.compile()
            fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=scalars)
        fully_shard(network, mesh=mesh, mp_policy=policy, ignored_params=scalars)


@cache
def _register_outputs() -> None:
    """FSDP looks for tensors in what networks take and give, and must be told where these keep theirs."""
    for kind in (TextTokens, Prediction):
        torch.export.register_dataclass(kind)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The transformer's blocks; other networks are small, and sharded as one."""
    return [*network.text_blocks, *network.blocks] if isinstance(network, Transformer) else []


def computing(module: nn.Module) -> nn.Module:
    """The part of a trained network that takes and gives tensors."""
    return module.network if isinstance(module, TextEncoder) else module


def synchronise(modules: list[nn.Module], now: bool) -> None:
    """Whether the next backward pass adds up the ranks' gradients: only a step's last one does."""
    for module in modules:
        switch: Any = getattr(module, "set_requires_gradient_sync", None)  # FSDP's
        if switch is not None:
            switch(now)
