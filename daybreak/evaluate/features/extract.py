"""Streams pictures through a network: statistics of all of them, features of at most `KEPT`, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.data.listing import Item
from daybreak.evaluate.features.networks import Network
from daybreak.evaluate.metrics import Moments, RunningMoments
from daybreak.evaluate.pictures import PictureFolder, content_key, prepared
from daybreak.files import cache_folder
from daybreak.parallel import Ranks

KEPT = 10_000
"""Features kept for kernel distances, bootstrap and neighbours; statistics are of all pictures."""


@dataclass(frozen=True)
class FeatureSet:
    """What is known of a set of pictures: moments of all, and features [K, D] float32 of K of them, which are number
    rows [K] of the set."""

    moments: Moments
    features: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return self.moments.count


@torch.no_grad()
def stream_features(
    items: list[Item], network: Network, device: torch.device, batch: int, skipped: list[Skipped]
) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of (rows of `items`, features [B, D] on `device`). Unreadable pictures go to `skipped`."""
    rows: list[int] = []
    pixels: list[Tensor] = []
    threads = max(1, min(32, os.cpu_count() or 1))
    for row, result in enumerate(prepared((i.path for i in items), network.prepare, threads)):
        if isinstance(result, ValueError):
            skipped.append(Skipped(str(items[row].path), str(result)))
            continue
        rows.append(row)
        pixels.append(result)
        if len(rows) == batch:
            yield rows, network.features(torch.stack(pixels).to(device, non_blocking=True))
            rows, pixels = [], []
    if rows:
        yield rows, network.features(torch.stack(pixels).to(device))


def extract(
    pictures: PictureFolder,
    network: Network,
    device: torch.device,
    ranks: Ranks,
    batch: int = 64,
    progress: Callable[[int], None] = lambda _: None,
) -> FeatureSet:
    """Features of all pictures; with several processes each takes its share and all get the whole.

    `progress` is called with the number of pictures of each batch. Raises ConfigError where fewer than two pictures are
    readable.
    """
    items = list(ranks.share(pictures.items))
    numbers = list(ranks.share(range(len(pictures))))
    chosen = np.random.default_rng(0).permutation(len(pictures))[:KEPT]
    wanted = set(chosen.tolist())
    running, skipped = RunningMoments(), list[Skipped]()
    kept_rows: list[int] = []
    kept: list[Tensor] = []
    for rows, features in stream_features(items, network, device, batch, skipped):
        running.add(features)
        keep = [i for i, row in enumerate(rows) if numbers[row] in wanted]
        kept_rows += [numbers[rows[i]] for i in keep]
        kept.append(features[keep].float().cpu())
        progress(len(rows))
    everyones = ranks.gather((running.to("cpu"), kept_rows, torch.cat(kept) if kept else torch.zeros(0), skipped))
    total = RunningMoments()
    for part, *_ in everyones:
        total.merge(part)
    known = {s.path for s in pictures.skipped}
    pictures.skipped += [s for *_, part in everyones for s in part if s.path not in known]
    if total.count < 2:
        reasons = "; ".join(sorted({s.reason for s in pictures.skipped})[:3])
        raise ConfigError(f"{pictures.path}: {total.count} readable pictures; at least 2 are needed ({reasons})")
    rows_of_all = torch.tensor([row for _, rows, *_ in everyones for row in rows])
    order = rows_of_all.argsort()
    return FeatureSet(total.result(), torch.cat([f for _, _, f, _ in everyones if len(f)])[order], rows_of_all[order])


def extract_cached(
    pictures: PictureFolder,
    network: Network,
    device: torch.device,
    ranks: Ranks,
    batch: int = 64,
    progress: Callable[[int], None] = lambda _: None,
) -> FeatureSet:
    """`extract`, filed under the pictures' content and the network: a reference set is streamed once, ever."""
    path = cache_folder() / "features" / f"{network.key}-{content_key(pictures.items)}.safetensors"
    found = _load(path) if path.is_file() else None
    if all(ranks.gather(found is not None)):
        assert found is not None
        progress(len(found))
        return found
    result = extract(pictures, network, device, ranks, batch, progress)
    # A set with unreadable pictures is not filed: its list of what was skipped belongs into every report.
    if ranks.first and not pictures.skipped:
        _save(result, path)
    return result


def _save(found: FeatureSet, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    tensors = {
        "mean": found.moments.mean,
        "covariance": found.moments.covariance,
        "features": found.features,
        "rows": found.rows,
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, {"count": str(found.moments.count)})
    partial.replace(path)


def _load(path: Path) -> FeatureSet | None:
    """A filed set; None where the file is damaged, which only costs the time to make it again."""
    try:
        with safe_open(path, "pt") as file:
            count = int(file.metadata()["count"])
            mean, covariance = file.get_tensor("mean"), file.get_tensor("covariance")
            return FeatureSet(Moments(count, mean, covariance), file.get_tensor("features"), file.get_tensor("rows"))
    except Exception:  # safetensors raises its own kinds; a damaged cache is no user's mistake
        return None
