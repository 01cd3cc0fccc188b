"""Figures of two sets of features, with intervals, and with what a reader has to be warned of."""

from __future__ import annotations

import torch
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.evaluate import metrics
from daybreak.evaluate.features.extract import FeatureSet
from daybreak.evaluate.measures import ENOUGH_FRECHET, METRICS, Measure, check_frechet

LEAST_INTERVAL = 10
"""Of a kernel distance: resamples of fewer pictures say little of how far another set would lie."""
FRECHET_RESAMPLES, RESAMPLES = 20, 200


def measure_distance(name: str, drawn: FeatureSet, reference: FeatureSet, device: torch.device) -> Measure:
    """fid, kid, cmmd, fd_dinov2 or dino_mmd. Raises ConfigError where there are too few pictures for it."""
    if name in ("fid", "fd_dinov2"):
        result = _frechet(name, drawn, reference, device)
    else:
        result = _kernel(name, drawn, reference, device)
    result.reference = len(reference)
    return result


def frechet_value(name: str, drawn: FeatureSet, reference: FeatureSet, device: torch.device) -> float:
    """The Fréchet distance alone; ConfigError where there are too few pictures."""
    for what, found in (("generated or given", drawn), ("of reference", reference)):
        check_frechet(name, len(found), what)
    return metrics.frechet_distance(_on(drawn.moments, device), _on(reference.moments, device))


def _frechet(name: str, drawn: FeatureSet, reference: FeatureSet, device: torch.device) -> Measure:
    value = frechet_value(name, drawn, reference, device)
    generator, kept = torch.Generator().manual_seed(0), drawn.features.to(device)
    target = _on(reference.moments, device)
    # Spread and bias are worked out on the kept features and fall as 1/√N and 1/N towards all of them.
    share = len(kept) / len(drawn)
    spread = metrics.frechet_spread(kept, target, FRECHET_RESAMPLES, generator) * share**0.5
    bias = metrics.frechet_bias(kept, target, generator)[0] * share
    result = Measure(
        name,
        value,
        len(drawn),
        _interval(value, spread),
        details={"bias": bias, "without bias": max(0.0, value - bias), "standard error": spread},
    )
    dimensions, few = drawn.features.shape[1], min(len(drawn), len(reference))
    if few <= dimensions:
        result.warnings.append(
            f"{few:,} pictures are fewer than the {dimensions:,} features: the covariance is incomplete"
        )
    if few < ENOUGH_FRECHET:
        result.warnings.append(
            f"{len(drawn):,} pictures raise the figure by about {bias:.3g} (bias of few samples); compare with figures "
            "of as many pictures only"
        )
    return result


def _kernel(name: str, drawn: FeatureSet, reference: FeatureSet, device: torch.device) -> Measure:
    x, y = drawn.features.to(device), reference.features.to(device)
    generator = torch.Generator().manual_seed(0)
    try:
        if name == "kid":
            kernel, factor = metrics.polynomial_kernel, 1000.0
        else:
            x, y, kernel, factor = (
                metrics.unit_length(x),
                metrics.unit_length(y),
                metrics.gaussian_kernel,
                metrics.CMMD_SCALE,
            )
        found = metrics.kernel_distance(x, y, kernel, RESAMPLES, generator).scaled(factor)
    except ValueError as e:
        raise ConfigError(f"{METRICS[name].title}: {e}") from None
    result = Measure(name, found.value, len(x))
    if min(len(x), len(y)) >= LEAST_INTERVAL:
        result.interval = _interval(found.value, found.spread)
        result.details = {"standard error": found.spread}
    else:
        result.warnings.append(f"of fewer than {LEAST_INTERVAL} pictures a side, no interval can be told")
    if name != "kid":
        result.details["with the diagonal, as CMMD's published code has it"] = found.with_diagonal
    if len(x) < len(drawn) or len(y) < len(reference):
        result.details["features used"] = f"{len(x):,} of {len(drawn):,}, reference {len(y):,} of {len(reference):,}"
    return result


def measure_inception_score(probabilities: Tensor) -> Measure:
    """From class probabilities [N, K]; the interval is of the mean over the splits."""
    try:
        mean, deviation = metrics.inception_score(probabilities)
    except ValueError as e:
        raise ConfigError(f"is: {e}") from None
    half = metrics.NORMAL_95 * deviation / metrics.IS_SPLITS**0.5
    result = Measure("is", mean, len(probabilities), (mean - half, mean + half))
    result.details = {"deviation over 10 splits": deviation}
    if len(probabilities) < 5000:
        result.warnings.append(f"{len(probabilities):,} pictures bias the Inception score downwards; 50,000 are usual")
    return result


def _interval(value: float, spread: float) -> tuple[float, float]:
    return value - metrics.NORMAL_95 * spread, value + metrics.NORMAL_95 * spread


def _on(moments: metrics.Moments, device: torch.device) -> metrics.Moments:
    return metrics.Moments(moments.count, moments.mean.to(device), moments.covariance.to(device))
