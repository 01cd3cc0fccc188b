"""From votes to figures: win rates, Bradley–Terry scores, agreement. Pure functions of numpy arrays.

Votes on the same prompt resemble each other: five voters on twenty prompts know less of a model than a hundred prompts
with a vote each. The intervals here allow for that, by the variance between prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

Z95 = NormalDist().inv_cdf(0.975)
"""Half width of a 95 % interval, standard errors."""


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] with its 95 % interval, from n votes that are worth `effective` independent ones."""

    rate: float
    low: float
    high: float
    n: int
    effective: float


@dataclass(frozen=True)
class Scores:
    """Bradley–Terry scores [K] in log-odds, their mean 0, with 95 % intervals [K]."""

    score: np.ndarray
    low: np.ndarray
    high: np.ndarray


def wilson(successes: float, n: float, z: float = Z95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson, 1927, eq. for p'), within [0, 1]; (0, 1) where n is 0.

    Neither number need be whole: a tie is half a success, and n may be an effective number.
    """
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def win_rate(outcomes: np.ndarray, prompts: np.ndarray) -> Rate:
    """Share of wins of n votes, with Wilson's interval at the effective number of votes.

    outcomes: [n] of 1 (won), 0.5 (tie), 0 (lost). prompts: [n], which prompt each vote is on. With G prompts and
    r_g the sum of outcome - rate over the votes on prompt g, the variance is G / (G - 1) · Σ r_g² / n² (Kish, 1965);
    where that exceeds rate (1 - rate) / n, n shrinks by the quotient, though not below G. A rate of 0 or 1 shows no
    variance at all; there G votes are counted.
    """
    n = len(outcomes)
    if n == 0:
        return Rate(math.nan, 0.0, 1.0, 0, 0.0)
    rate = float(np.mean(outcomes))
    _, group = np.unique(prompts, return_inverse=True)
    residuals = np.bincount(group, weights=outcomes - rate)
    groups = len(residuals)
    binomial = rate * (1 - rate) / n
    if binomial > 0 and groups > 1:
        clustered = groups / (groups - 1) * float(residuals @ residuals) / n**2
        effective = min(float(n), max(float(groups), n * binomial / max(clustered, binomial)))
    else:
        effective = float(groups)
    low, high = wilson(rate * effective, effective)
    return Rate(rate, low, high, n, effective)


def bradley_terry(wins: np.ndarray) -> Scores:
    """Strengths s with P(i beats j) = 1 / (1 + exp(s_j - s_i)) (Bradley and Terry, 1952), most likely for the votes.

    wins: [P, K, K], how often i beat j on each of P prompts; a tie is half a win for both. Every two contestants get
    one tie beside their votes, which keeps the scores finite where one always wins (for K = 2 it is the logit with
    1/2 added to both counts: Anscombe, 1956). The standard errors are the larger of those of the Fisher information and
    of the sandwich estimator that takes votes on one prompt as one observation (Liang and Zeger, 1986).
    """
    prompts, k, _ = wins.shape
    total = wins.sum(0) + 0.5 * (1 - np.eye(k))
    score = np.zeros(k)
    for _ in range(100):
        step = np.linalg.pinv(_information(total, score)) @ _gradient(total, score)
        # Full Newton steps may overshoot far from the maximum; the likelihood is concave, so halving finds an ascent.
        size = 1.0
        while size > 1e-10 and _log_likelihood(total, score + size * step) < _log_likelihood(total, score):
            size /= 2
        score = score + size * step
        if np.abs(step).max() < 1e-10:
            break
    score -= score.mean()
    covariance = np.linalg.pinv(_information(total, score))
    gradients = np.stack([_gradient(w, score) for w in wins]) if prompts else np.zeros((1, k))
    between = prompts / max(prompts - 1, 1) * gradients.T @ gradients
    sandwich = covariance @ between @ covariance
    error = np.sqrt(np.maximum(np.diag(covariance), np.diag(sandwich)))
    return Scores(score, score - Z95 * error, score + Z95 * error)


def _chance(score: np.ndarray) -> np.ndarray:
    """P(i beats j): [K, K]."""
    return 1 / (1 + np.exp(score[None, :] - score[:, None]))


def _log_likelihood(wins: np.ndarray, score: np.ndarray) -> float:
    return -float((wins * np.logaddexp(0, score[None, :] - score[:, None])).sum())


def _gradient(wins: np.ndarray, score: np.ndarray) -> np.ndarray:
    return (wins - (wins + wins.T) * _chance(score)).sum(1)


def _information(wins: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Minus the second derivative of the log-likelihood: [K, K], a weighted graph's Laplacian."""
    chance = _chance(score)
    weight = (wins + wins.T) * chance * chance.T
    np.fill_diagonal(weight, 0)
    return np.diag(weight.sum(1)) - weight


def cohen_kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two voters on the same things beyond chance (Cohen, 1960): 1 is perfect, 0 is chance.

    a, b: [n] of categories. NaN where both always give the same one category, or n is 0.
    """
    if len(a) == 0:
        return math.nan
    categories = np.union1d(a, b)
    expected = sum(float(np.mean(a == c)) * float(np.mean(b == c)) for c in categories)
    return math.nan if expected == 1 else (float(np.mean(a == b)) - expected) / (1 - expected)


def fleiss_kappa(counts: np.ndarray) -> float:
    """Agreement of many voters beyond chance (Fleiss, 1971): 1 is perfect, 0 is chance.

    counts: [things, categories], how many voters chose each. Voters may differ in number from thing to thing; those
    with fewer than two votes say nothing and are left out. NaN where nothing is left, or only one category was used.
    """
    counts = counts[counts.sum(1) >= 2]
    if len(counts) == 0:
        return math.nan
    expected = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return math.nan if expected == 1 else (observed_agreement(counts) - expected) / (1 - expected)


def observed_agreement(counts: np.ndarray) -> float:
    """Share of voter pairs that gave the same answer, averaged over things; NaN where no thing has two votes."""
    counts = counts[counts.sum(1) >= 2]
    if len(counts) == 0:
        return math.nan
    n = counts.sum(1)
    return float(np.mean((counts * (counts - 1)).sum(1) / (n * (n - 1))))
