"""Distances between two sets of pictures, as pure functions of their features.

Features are [N, D] float tensors, statistics float64. x is what is judged, y the reference; for every distance, 0 is
best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 2048
"""Rows of a kernel matrix that exist at once."""
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
"""Bandwidth of the Gaussian kernel, and a factor for readable figures (CMMD, arXiv 2401.09603, section 4)."""
IS_SPLITS = 10
NORMAL_95 = 1.959963984540054
"""Half of a 95 % interval, in standard errors."""


@dataclass(frozen=True)
class Moments:
    """count, mean [D] and covariance [D, D] (divided by count - 1) of features, float64."""

    count: int
    mean: Tensor
    covariance: Tensor


class RunningMoments:
    """Mean and covariance of a stream of features, in constant memory; two of them merge into one.

    Chan, Golub and LeVeque 1983: every batch is centred on its own mean, so that nothing large cancels.
    """

    def __init__(self) -> None:
        self.count, self._mean, self._scatter = 0, torch.zeros(0), torch.zeros(0)

    def add(self, features: Tensor) -> None:
        """features: [B, D]."""
        rows = features.double()
        mean = rows.mean(dim=0)
        centred = rows - mean
        self._merge(len(rows), mean, centred.T @ centred)

    def merge(self, other: RunningMoments) -> None:
        """Takes in everything that `other` has seen."""
        self._merge(other.count, other._mean, other._scatter)

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if count == 0:
            return
        if self.count == 0:
            self.count, self._mean, self._scatter = count, mean.clone(), scatter.clone()
            return
        total, shift = self.count + count, mean.to(self._mean.device) - self._mean
        self._scatter += scatter.to(self._mean.device)
        self._scatter += torch.outer(shift, shift) * (self.count * count / total)
        self._mean = self._mean + shift * (count / total)
        self.count = total

    def to(self, device: torch.device | str) -> RunningMoments:
        """The same on another device."""
        self._mean, self._scatter = self._mean.to(device), self._scatter.to(device)
        return self

    def result(self) -> Moments:
        """Raises ValueError below two features, which have no covariance."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 pictures, there is {self.count}")
        return Moments(self.count, self._mean, self._scatter / (self.count - 1))


def moments(features: Tensor) -> Moments:
    """The moments of features [N, D] that are all at hand."""
    running = RunningMoments()
    running.add(features)
    return running.result()


def frechet_distance(x: Moments, y: Moments) -> float:
    """|mean_x - mean_y|² + tr(C_x) + tr(C_y) - 2 tr((C_x C_y)^½)   (FID: Heusel et al. 2017, equation 6).

    tr((C_x C_y)^½) is the sum of the singular values of A^T B, where C_x = A A^T and C_y = B B^T. That needs no
    square root of a matrix that is not symmetric, whose rounding is what makes other FIDs differ in the 4th digit, and
    holds for rank-deficient covariances (fewer pictures than dimensions).
    """
    return _frechet(x, y, root(x.covariance), root(y.covariance))


def _frechet(x: Moments, y: Moments, root_x: Tensor, root_y: Tensor) -> float:
    shared = torch.linalg.svdvals(root_x.T @ root_y).sum()
    distance = (x.mean - y.mean).square().sum() + x.covariance.trace() + y.covariance.trace() - 2 * shared
    return max(0.0, distance.item())


def root(covariance: Tensor) -> Tensor:
    """A with A A^T = covariance: [D, D] -> [D, R], R its numerical rank."""
    values, vectors = torch.linalg.eigh(covariance)
    # Below this, eigenvalues are rounding; their roots would not be small.
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def frechet_of_features(x: Tensor, y: Moments, root_y: Tensor) -> float:
    """The Fréchet distance of features x [N, D] to y, whose `root` is at hand: one eigenvalue problem of min(N, D)."""
    mean = x.mean(dim=0)
    projected = (x - mean) @ root_y / (len(x) - 1) ** 0.5  # [N, R]
    small = projected @ projected.T if projected.shape[0] < projected.shape[1] else projected.T @ projected
    shared = torch.linalg.eigvalsh(small).clamp(min=0).sqrt().sum()
    own = (x - mean).square().sum() / (len(x) - 1)
    distance = (mean - y.mean).square().sum() + own + y.covariance.trace() - 2 * shared
    return max(0.0, distance.item())


def frechet_spread(x: Tensor, y: Moments, resamples: int, generator: torch.Generator) -> float:
    """Standard error of the Fréchet distance of features x [N, D] to y, by bootstrap over x.

    Only the spread of the resamples is used: drawing with repetition shrinks the covariance and so moves the Fréchet
    distance itself upwards, and an interval of percentiles would not even contain the estimate.
    """
    x, root_y = x.double(), root(y.covariance)
    rows = [torch.randint(len(x), (len(x),), generator=generator) for _ in range(resamples)]
    return float(torch.tensor([frechet_of_features(x[r.to(x.device)], y, root_y) for r in rows]).std())


def frechet_bias(x: Tensor, y: Moments, generator: torch.Generator) -> tuple[float, float]:
    """(bias, extrapolated distance) of the Fréchet distance of features x [N, D] to y.

    The distance of N samples is high by b / N to first order (Chong & Forsyth 2020, arXiv 1911.07023). b comes from the
    distances of the two halves of x against that of the whole. The reference is taken as it is.
    """
    x, root_y = x.double(), root(y.covariance)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    half = len(x) // 2
    halves = [
        frechet_of_features(x[order[:half]], y, root_y),
        frechet_of_features(x[order[half : 2 * half]], y, root_y),
    ]
    whole = frechet_of_features(x, y, root_y)
    bias = (sum(halves) / 2 - whole) / (1 / half - 1 / len(x)) / len(x)
    return bias, whole - bias


Kernel = Callable[[Tensor, Tensor], Tensor]


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(a·b / D + 1)³: [N, D], [M, D] -> [N, M]   (KID: Bińkowski et al. 2018, section 4)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def gaussian_kernel(a: Tensor, b: Tensor, sigma: float = CMMD_SIGMA) -> Tensor:
    """exp(-|a - b|² / (2 sigma²)): [N, D], [M, D] -> [N, M]."""
    squared = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return torch.exp(squared.clamp(min=0) / (-2 * sigma**2))


@dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy.

    value: unbiased (Gretton et al. 2012, lemma 6); may be slightly below 0 where the sets are alike.
    with_diagonal: biased, never below 0 (equation 5); what CMMD's published code computes.
    spread: standard error of `value`, by bootstrap over both sets.
    """

    value: float
    with_diagonal: float
    spread: float

    def scaled(self, factor: float) -> KernelDistance:
        """All three times `factor`."""
        return KernelDistance(self.value * factor, self.with_diagonal * factor, self.spread * factor)


def kernel_distance(x: Tensor, y: Tensor, kernel: Kernel, resamples: int, generator: torch.Generator) -> KernelDistance:
    """Squared MMD of features x [N, D] and y [M, D], block by block: the kernel matrix never exists whole.

    A resample is a weight for each feature (how often it was drawn); the first one is all ones and gives the estimate.
    Pairs of a feature with itself are left out, so that drawing it twice adds no bias. Raises ValueError below two
    features a side.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a kernel distance needs at least 2 pictures a side, there are {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    wx, wy = _weights(len(x), resamples, generator).to(x), _weights(len(y), resamples, generator).to(y)
    n, m = len(x), len(y)
    diagonal_x, diagonal_y = _diagonal(x, kernel), _diagonal(y, kernel)
    sum_xx, sum_yy = _weighted_sums(x, x, wx, wx, kernel), _weighted_sums(y, y, wy, wy, kernel)
    xx = (sum_xx - wx.square() @ diagonal_x) / (n**2 - wx.square().sum(dim=1))
    yy = (sum_yy - wy.square() @ diagonal_y) / (m**2 - wy.square().sum(dim=1))
    xy = _weighted_sums(x, y, wx, wy, kernel) / (n * m)
    values = xx + yy - 2 * xy  # [1 + resamples]
    biased = sum_xx[0] / n**2 + sum_yy[0] / m**2 - 2 * xy[0]
    resampled = values[1:][values[1:].isfinite()]  # of few pictures, a resample may be one picture and have no pair
    return KernelDistance(values[0].item(), biased.item(), resampled.std().item() if len(resampled) > 1 else 0.0)


def _weights(n: int, resamples: int, generator: torch.Generator) -> Tensor:
    """[1 + resamples, n]: ones, then how often each of n was drawn in n draws with repetition."""
    drawn = torch.randint(n, (resamples, n), generator=generator)
    counts = torch.zeros(resamples, n).scatter_add_(1, drawn, torch.ones(resamples, n))
    return torch.cat([torch.ones(1, n), counts])


def _weighted_sums(a: Tensor, b: Tensor, wa: Tensor, wb: Tensor, kernel: Kernel) -> Tensor:
    """Sums of wa_i wb_j k(a_i, b_j) over all pairs, for each row of the weights: [R]."""
    total = torch.zeros(len(wa), dtype=a.dtype, device=a.device)
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            part = kernel(a[i : i + BLOCK], b[j : j + BLOCK])
            total += ((wa[:, i : i + BLOCK] @ part) * wb[:, j : j + BLOCK]).sum(dim=1)
    return total


def _diagonal(a: Tensor, kernel: Kernel) -> Tensor:
    """k(a_i, a_i): [N]."""
    return torch.cat([kernel(part, part).diagonal() for part in a.split(256)])


def unit_length(features: Tensor) -> Tensor:
    """Features [N, D] scaled to length 1, as CMMD compares them."""
    return torch.nn.functional.normalize(features.double(), dim=1)


def inception_score(probabilities: Tensor, splits: int = IS_SPLITS) -> tuple[float, float]:
    """exp(E KL(p(class | picture) || p(class))) of probabilities [N, K]: mean and deviation over splits.

    Salimans et al. 2016. Higher is better; 1 to K. Raises ValueError with fewer pictures than splits.
    """
    if len(probabilities) < splits:
        raise ValueError(
            f"an Inception score over {splits} splits needs as many pictures, there are {len(probabilities)}"
        )
    scores = []
    for part in probabilities.double().tensor_split(splits):
        marginal = part.mean(dim=0, keepdim=True)
        divergence = torch.special.xlogy(part, part) - torch.special.xlogy(part, marginal)
        scores.append(divergence.sum(dim=1).mean().exp())
    values = torch.stack(scores)
    return values.mean().item(), values.std(correction=0).item()


def share_interval(counts: Sequence[tuple[int, int]], draws: int = 20_000) -> tuple[float, float]:
    """95 % interval of the mean of shares, each given as (hits, of how many).

    Jeffreys' prior: each share is drawn from Beta(hits + ½, misses + ½). A bootstrap would say "0 % to 0 %" where
    nothing was hit, however few were tried.
    """
    rng = np.random.default_rng(0)
    shares = [rng.beta(hits + 0.5, total - hits + 0.5, draws) for hits, total in counts]
    low, high = np.quantile(np.mean(shares, axis=0), [0.025, 0.975])
    if all(hits == 0 for hits, _ in counts):
        low = 0.0
    if all(hits == total for hits, total in counts):
        high = 1.0
    return float(low), float(high)


def bootstrap_interval(values: Tensor, resamples: int, generator: torch.Generator) -> tuple[float, float]:
    """95 % percentile interval of the mean of values [N], such as similarities."""
    rows = torch.randint(len(values), (resamples, len(values)), generator=generator)
    means = values.double()[rows].mean(dim=1)
    return means.quantile(0.025).item(), means.quantile(0.975).item()
