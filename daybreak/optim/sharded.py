"""Newton-Schulz for sharded matrices: every rank orthogonalises some of them whole.

A matrix's rows lie with different ranks, and its orthogonalisation needs all of them. So each matrix has an owner; one
exchange brings it the rows of its matrices, it computes them batched by shape, and one exchange brings the rows back.
With R ranks each does about 1 / R of the work, where gathering every matrix at every rank would do all of it R times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

from daybreak.parallel import is_sharded, rows_of


def shard_group(parameter: Tensor) -> ProcessGroup | None:
    """The ranks among which a parameter's rows are shared; None where it is whole."""
    if not is_sharded(parameter):
        return None
    mesh = parameter.device_mesh
    return mesh.get_group("shard") if mesh.ndim > 1 else mesh.get_group()


def owners(shapes: list[torch.Size], world: int) -> list[int]:
    """Which rank computes which matrix: the costliest first, each to the rank with the least to do so far."""
    cost = [r * c * min(r, c) for r, c in shapes]
    load, result = [0] * world, [0] * len(shapes)
    for i in sorted(range(len(shapes)), key=lambda i: -cost[i]):
        result[i] = min(range(world), key=load.__getitem__)
        load[result[i]] += cost[i]
    return result


def exchange(
    shards: list[Tensor], shapes: list[torch.Size], group: ProcessGroup, compute: Callable[[list[Tensor]], list[Tensor]]
) -> list[Tensor]:
    """`compute` (whole matrices -> matrices of the same shapes) applied to matrices whose rows are spread over `group`.

    shards: this rank's rows of every matrix, [r_i, C_i]; shapes: of the whole matrices. Returns this rank's rows of the
    results.
    """
    world, me = distributed.get_world_size(group), distributed.get_rank(group)
    owner = owners(shapes, world)
    sent = [[i for i, o in enumerate(owner) if o == rank] for rank in range(world)]  # by the rank that gets them
    mine = sent[me]
    rows = [[rows_of(shapes[i][0], rank, world)[1] for i in mine] for rank in range(world)]  # of mine, by source

    out = _flat([shards[i] for part in sent for i in part], shards[0])
    out_sizes = [sum(shards[i].numel() for i in part) for part in sent]
    in_sizes = [sum(r * shapes[i][1] for i, r in zip(mine, counts, strict=True)) for counts in rows]
    came = out.new_empty(sum(in_sizes))
    distributed.all_to_all_single(came, out, in_sizes, out_sizes, group=group)

    pieces: list[list[Tensor]] = [[] for _ in mine]  # by matrix, in the order of the ranks
    for source, block in enumerate(came.split(in_sizes)):
        sizes = [r * shapes[i][1] for i, r in zip(mine, rows[source], strict=True)]
        for place, piece in enumerate(block.split(sizes)):
            pieces[place].append(piece.view(-1, shapes[mine[place]][1]))
    results = compute([torch.cat(p) for p in pieces])

    back = _flat(
        [m[slice(start, start + count)] for rank in range(world) for i, m in zip(mine, results, strict=True)
         for start, count in [rows_of(shapes[i][0], rank, world)]],
        shards[0],
    )  # fmt: skip
    returned = back.new_empty(out.shape)
    distributed.all_to_all_single(returned, back, out_sizes, in_sizes, group=group)
    order = [i for part in sent for i in part]
    parts = dict(zip(order, returned.split([shards[i].numel() for i in order]), strict=True))
    return [parts[i].view_as(shards[i]) for i in range(len(shards))]


def _flat(tensors: list[Tensor], like: Tensor) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors]) if tensors else like.new_empty(0)
