"""Features of a picture that nobody has trained, for a Fréchet distance that no recipe can have learnt.

Features of a network with random weights tell sets of pictures apart where a trained network is out of its field
("Reliable Fidelity and Diversity Metrics", arXiv 2002.09797, section 4). What is drawn and what is real are seen alike,
no teacher of either side has seen them, and since the weights come from the judge's seed, those of a hidden one do not
exist before the run has ended. Inception, CLIP and DINO know photographs, and recipes learn from such networks; the
embedded teacher is one of our own recipes'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)
"""Channels after each stage; each halves the side."""
PLACES = 2
"""Features are averaged over so many parts of the picture in each direction: they know where things are."""


class RandomFeatures(nn.Module):
    """[B, 3, H, W] in [-1, 1] -> [B, 4 (16 + 32 + 64)]: means of each stage's channels over quarters of the picture.

    Two 3 x 3 convolutions a stage, the second with stride 2; orthogonal weights, which keep what is different apart.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        inputs, stages = 3, []
        for width in WIDTHS:
            first, second = (
                nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                nn.Conv2d(width, width, 3, 2, padding=1, bias=False),
            )
            for layer in (first, second):
                flat = torch.empty(width, layer.weight[0].numel())
                nn.init.orthogonal_(flat, gain=2**0.5, generator=generator)
                layer.weight = nn.Parameter(flat.view_as(layer.weight), requires_grad=False)
            stages.append(nn.Sequential(first, nn.ReLU(), second, nn.ReLU()))
            inputs = width
        self.stages = nn.ModuleList(stages)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, D]."""
        found, x = [], images
        for stage in self.stages:
            x = stage(x)
            found.append(F.adaptive_avg_pool2d(x, PLACES).flatten(1))
        return torch.cat(found, dim=1)


class Scaled:
    """Random features of which each stage has, over reference pictures, deviations of 1 in the mean: none rules.

    Not each feature for itself: one that hardly ever fires would be blown up, and rule the distance alone.
    """

    def __init__(self, network: RandomFeatures, reference: Tensor) -> None:
        """reference: pictures [N, 3, H, W] in [-1, 1]."""
        self._network = network
        sizes = [PLACES**2 * width for width in WIDTHS]
        deviations = in_batches(network, reference).std(dim=0).split(sizes)
        self._scale = torch.cat([d.square().mean().sqrt().expand(len(d)) for d in deviations])

    def __call__(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, D]."""
        return in_batches(self._network, images) / self._scale


def in_batches(network: nn.Module, images: Tensor, size: int = 256) -> Tensor:
    """Features of many pictures, some at a time."""
    return torch.cat([network(part) for part in images.split(size)])
