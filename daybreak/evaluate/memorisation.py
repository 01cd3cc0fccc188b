"""Does the model repeat its training pictures? Nearest neighbours in features; held-out pictures are the yardstick."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from daybreak.evaluate.features.extract import FeatureSet, stream_features
from daybreak.evaluate.features.networks import Network
from daybreak.evaluate.measures import Measure
from daybreak.evaluate.metrics import share_interval
from daybreak.evaluate.mosaic import Tile, save_mosaic
from daybreak.evaluate.pictures import PictureFolder
from daybreak.parallel import Ranks

YARDSTICK = 0.99
"""A picture counts as memorised where it is nearer to training than this share of held-out pictures."""
SHOWN = 12
IDENTICAL = 0.9999


def measure_memorised(
    drawn: FeatureSet, pictures: PictureFolder, held_out: FeatureSet, training: PictureFolder, network: Network,
    device: torch.device, ranks: Ranks, out: Path,
) -> Measure:  # fmt: skip
    """The share of generated pictures that lie nearer to some training picture than 99 % of held-out pictures do.

    `pictures`: those that `drawn` was made of. A model that repeats nothing scores about 1 %. The
    training pictures are streamed: memory holds one batch of them.
    """
    ours = functional.normalize(drawn.features.to(device), dim=1)
    theirs = functional.normalize(held_out.features.to(device), dim=1)
    nearest, where = _nearest(torch.cat([ours, theirs]), training, network, device, ranks)
    yardstick = nearest[len(ours) :].double().quantile(YARDSTICK).item()
    similarity, row = nearest[: len(ours)], where[: len(ours)]
    over = (similarity > yardstick).double()
    interval = share_interval([(int(over.sum()), len(over))])
    result = Measure("memorised", over.mean().item(), len(ours), interval, reference=len(held_out))
    result.details = {
        "yardstick: similarity": yardstick,
        "training pictures": len(training),
        "median similarity, drawn": similarity.double().median().item(),
        "median similarity, held-out": nearest[len(ours) :].double().median().item(),
    }
    same = (nearest[len(ours) :] > IDENTICAL).double().mean().item()
    if same > 0.01:
        result.warnings.append(f"{same:.0%} of the reference pictures are training pictures: the yardstick is too mild")
    if len(theirs) < 100:
        result.warnings.append(f"{len(theirs)} held-out pictures make a rough yardstick; 100 or more would do")
    if ranks.first:
        tiles = []
        for i in similarity.argsort(descending=True)[:SHOWN].tolist():
            tiles.append(
                Tile(
                    pictures.items[int(drawn.rows[i])].path,
                    f"generated, similarity {similarity[i]:.3f}",
                    good=not bool(over[i]),
                )
            )
            tiles.append(Tile(training.items[int(row[i])].path, "nearest of training"))
        save_mosaic(tiles, out / "nearest.png")
    result.images = {"nearest.png": "The generated pictures that come nearest to training, each beside its neighbour"}
    return result


def _nearest(
    wanted: Tensor, training: PictureFolder, network: Network, device: torch.device, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Highest cosine [N] of each unit row of `wanted` over the training pictures, and the row of that picture [N]."""
    best = torch.full((len(wanted),), -2.0, device=device)
    where = torch.zeros(len(wanted), dtype=torch.long, device=device)
    mine = list(ranks.share(training.items))
    for rows, features in stream_features(mine, network, device, 64, training.skipped):
        cosine = wanted @ functional.normalize(features, dim=1).T  # [N, B]
        value, place = cosine.max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        numbers = torch.tensor([ranks.rank + ranks.world * r for r in rows], device=device)
        where = torch.where(better, numbers[place], where)
    parts = ranks.gather((best.cpu(), where.cpu()))
    values = torch.stack([b for b, _ in parts])
    best_rank = values.argmax(dim=0, keepdim=True)
    return values.gather(0, best_rank)[0], torch.stack([w for _, w in parts]).gather(0, best_rank)[0]
