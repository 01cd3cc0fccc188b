"""CLIPScore: how near CLIP finds pictures to their captions (Hessel et al. 2021, arXiv 2104.08718)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from daybreak.config import ConfigError
from daybreak.evaluate.features.extract import stream_features
from daybreak.evaluate.features.networks import CLIP_TOKENS, Clip
from daybreak.evaluate.measures import Measure
from daybreak.evaluate.metrics import bootstrap_interval
from daybreak.evaluate.mosaic import Tile, save_mosaic
from daybreak.evaluate.pictures import PictureFolder
from daybreak.parallel import Ranks

RESAMPLES = 1000


def clip_scores(cosines: Tensor) -> Tensor:
    """100 max(cosine, 0), the field's present scale (the paper's: times 2.5 instead)."""
    return 100 * cosines.clamp(min=0)


@torch.no_grad()
def measure_clipscore(pictures: PictureFolder, clip: Clip, device: torch.device, ranks: Ranks, out: Path) -> Measure:
    """The mean of `clip_scores`, and the pictures of the lowest ones."""
    items = pictures.captioned()
    if len(items) < 2:
        raise ConfigError(f"clipscore needs captions: {pictures.path} has none (metadata.jsonl, or .txt files)")
    mine = list(ranks.share(items))
    scores: list[tuple[int, float]] = []
    for rows, features in stream_features(mine, clip, device, 64, pictures.skipped):
        texts = functional.normalize(clip.text_features([mine[r].caption for r in rows]), dim=1)
        cosines = (functional.normalize(features, dim=1) * texts).sum(dim=1)
        scores += zip(rows, clip_scores(cosines).tolist(), strict=True)
    everyones = [(rank + ranks.world * r, s) for rank, part in enumerate(ranks.gather(scores)) for r, s in part]
    if len(everyones) < 2:
        raise ConfigError(f"{pictures.path}: fewer than 2 captioned pictures are readable")
    everyones.sort(key=lambda row: row[1])
    values = torch.tensor([s for _, s in everyones], dtype=torch.float64)
    interval = bootstrap_interval(values, RESAMPLES, torch.Generator().manual_seed(0))
    result = Measure("clipscore", values.mean().item(), len(values), interval)
    if cut := clip.too_long([i.caption for i in items]):
        result.warnings.append(
            f"{cut} of {len(items)} captions are longer than CLIP's {CLIP_TOKENS} tokens and were cut"
        )
    if ranks.first:
        tiles = [Tile(items[row].path, f"{score:.1f}  {items[row].caption}") for row, score in everyones[:24]]
        save_mosaic(tiles, out / "clipscore_lowest.png")
    result.images = {"clipscore_lowest.png": "The pictures that CLIP finds furthest from their prompts"}
    return result
