"""The distances against scipy in float64, closed forms, and their own statistical promises."""

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from daybreak.evaluate import metrics
from daybreak.evaluate.distribution import measure_distance
from daybreak.evaluate.features.extract import FeatureSet
from daybreak.evaluate.metrics import Moments, RunningMoments, frechet_distance, moments


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return shift + scale * torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def random_covariance(d: int, seed: int, rank: int | None = None) -> torch.Tensor:
    a = gaussian(d, rank or d, seed)
    return a @ a.T / d


def scipy_frechet(x: Moments, y: Moments) -> float:
    root = linalg.sqrtm(x.covariance.numpy() @ y.covariance.numpy())
    gap = x.mean.numpy() - y.mean.numpy()
    return float(gap @ gap + np.trace(x.covariance.numpy() + y.covariance.numpy() - 2 * root.real))


@pytest.mark.parametrize("d", [1, 7, 64])
def test_frechet_agrees_with_scipy(d):
    x = Moments(100, gaussian(d, 1, 1)[:, 0], random_covariance(d, 2))
    y = Moments(100, gaussian(d, 1, 3)[:, 0], random_covariance(d, 4))
    assert frechet_distance(x, y) == pytest.approx(scipy_frechet(x, y), rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_frechet_closed_forms():
    d = 50
    zero, eye = torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)
    # The same covariance: |difference of means|².
    assert frechet_distance(Moments(9, zero, eye), Moments(9, zero + 0.3, eye)) == pytest.approx(d * 0.09, rel=1e-6)
    # Commuting covariances: the sum of squared differences of their roots.
    a, b = torch.linspace(0.1, 4, d, dtype=torch.float64), torch.linspace(2, 1, d, dtype=torch.float64)
    turn = torch.linalg.qr(gaussian(d, d, 5))[0]
    x = Moments(9, zero, turn @ a.diag() @ turn.T)
    y = Moments(9, zero, turn @ b.diag() @ turn.T)
    expected = (a.sqrt() - b.sqrt()).square().sum().item()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * a.sum().item())


def test_frechet_of_rank_deficient_covariances():
    # Orthogonal supports share nothing: both traces remain. scipy's root of a singular product is only good to 1e-7.
    d = 30
    p = torch.diag(torch.tensor([1.0] * 10 + [0.0] * 20, dtype=torch.float64))
    q = torch.diag(torch.tensor([0.0] * 20 + [4.0] * 10, dtype=torch.float64))
    zero = torch.zeros(d, dtype=torch.float64)
    assert frechet_distance(Moments(9, zero, p), Moments(9, zero, q)) == pytest.approx(50, rel=1e-9)
    x = moments(gaussian(20, 60, 1))  # fewer pictures than dimensions
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [20, 90])
def test_frechet_of_features_agrees_with_that_of_moments(n):
    x, y = gaussian(n, 40, 1, 0.2), moments(gaussian(300, 40, 2))
    direct = metrics.frechet_of_features(x, y, metrics.root(y.covariance))
    assert direct == pytest.approx(frechet_distance(moments(x), y), rel=1e-6)


def test_moments_of_a_stream_are_those_of_the_whole():
    x = gaussian(1003, 17, 1, shift=1000)
    running, other = RunningMoments(), RunningMoments()
    for part in x[:600].split(64):
        running.add(part)
    for part in x[600:].split(31):
        other.add(part)
    running.merge(other)
    running.merge(RunningMoments())
    result = running.result()
    assert result.count == 1003
    np.testing.assert_allclose(result.mean, x.numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.covariance, np.cov(x.numpy().T), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="at least 2 pictures, there is 1"):
        moments(x[:1])


def test_the_frechet_spread_is_that_of_repeated_sampling():
    y = Moments(10**6, torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64))
    root = metrics.root(y.covariance)
    samples = [gaussian(400, 8, seed, shift=0.3) for seed in range(60)]
    true = np.std([metrics.frechet_of_features(s, y, root) for s in samples])
    said = np.mean([metrics.frechet_spread(s, y, 50, generator(1)) for s in samples[:4]])
    assert said == pytest.approx(true, rel=0.35)


def test_the_frechet_bias_is_found_and_removed():
    # A sample of the reference itself has distance 0 but for the bias.
    y = Moments(10**6, torch.zeros(30, dtype=torch.float64), torch.eye(30, dtype=torch.float64))
    root = metrics.root(y.covariance)
    plain, corrected = [], []
    for seed in range(8):
        x = gaussian(500, 30, seed)
        plain.append(metrics.frechet_of_features(x, y, root))
        bias, extrapolated = metrics.frechet_bias(x, y, generator(seed))
        assert bias == pytest.approx(plain[-1] - extrapolated)
        corrected.append(extrapolated)
    assert np.mean(plain) > 0.4
    assert abs(np.mean(corrected)) < 0.1 * np.mean(plain)


def naive_mmd(x, y, k) -> float:
    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


KERNELS = {
    "kid": (metrics.polynomial_kernel, lambda a, b: (a @ b / len(a) + 1) ** 3),
    "gaussian": (metrics.gaussian_kernel, lambda a, b: np.exp(-((a - b) ** 2).sum() / 200)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_distances_agree_with_the_sums_of_the_paper(monkeypatch, name):
    monkeypatch.setattr(metrics, "BLOCK", 7)
    kernel, plain = KERNELS[name]
    x, y = gaussian(23, 5, 1, scale=3), gaussian(17, 5, 2, shift=1, scale=3)
    found = metrics.kernel_distance(x, y, kernel, 0, generator())
    assert found.value == pytest.approx(naive_mmd(x.numpy(), y.numpy(), plain), rel=1e-9)
    assert found.with_diagonal > found.value
    assert found.scaled(1000).value == pytest.approx(1000 * found.value)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_distances_are_unbiased(name):
    # Means over many small samples: 0 for equal distributions (the biased form is far from it), and for different ones
    # the figure of large samples.
    kernel, _ = KERNELS[name]

    def values(n: int, shift: float, repeats: int) -> np.ndarray:
        pairs = [(gaussian(n, 4, 2 * s, scale=3), gaussian(n, 4, 2 * s + 1, shift, 3)) for s in range(repeats)]
        found = [metrics.kernel_distance(x, y, kernel, 0, generator()) for x, y in pairs]
        return np.array([[f.value, f.with_diagonal] for f in found])

    same = values(10, 0.0, 300)
    error = same[:, 0].std() / len(same) ** 0.5
    assert abs(same[:, 0].mean()) < 4 * error
    assert same[:, 1].mean() > 10 * error
    small, large = values(10, 1.5, 300)[:, 0], values(1000, 1.5, 4)[:, 0]
    assert small.mean() == pytest.approx(large.mean(), abs=4 * (small.std() / 300**0.5 + large.std() / 2))


def test_the_kernel_spread_is_that_of_repeated_sampling():
    pairs = [(gaussian(120, 4, 2 * s), gaussian(120, 4, 2 * s + 1, 0.5)) for s in range(80)]
    found = [metrics.kernel_distance(x, y, metrics.polynomial_kernel, 100, generator(1)) for x, y in pairs]
    assert np.mean([f.spread for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.3)


def test_the_spread_of_few_pictures_is_a_number():
    """Some resamples are one picture again and again, and have no pair."""
    found = metrics.kernel_distance(gaussian(4, 3, 1), gaussian(4, 3, 2), metrics.polynomial_kernel, 200, generator())
    assert 0 < found.spread < float("inf")


@pytest.mark.parametrize(("n", "told"), [(4, False), (10, True)])
def test_of_too_few_pictures_no_interval_is_told(n, told):
    few = FeatureSet(moments(gaussian(n, 3, 1)), gaussian(n, 3, 1), torch.arange(n))
    found = measure_distance("kid", few, few, torch.device("cpu"))
    assert (found.interval is not None) == told and bool(found.warnings) != told


def test_a_distance_needs_two_pictures():
    with pytest.raises(ValueError, match="at least 2 pictures a side, there are 1 and 5"):
        metrics.kernel_distance(gaussian(1, 3, 1), gaussian(5, 3, 2), metrics.polynomial_kernel, 0, generator())


def test_inception_score():
    classes = 10
    sure = torch.eye(classes, dtype=torch.float64).repeat_interleave(7, dim=0)
    # Each split sees every class once: certain and diverse gives the number of classes.
    mixed = sure.view(classes, 7, classes).transpose(0, 1).reshape(-1, classes)
    assert metrics.inception_score(mixed, splits=7) == pytest.approx((10, 0), rel=1e-9)
    assert metrics.inception_score(torch.full((50, classes), 0.1), splits=5)[0] == pytest.approx(1, rel=1e-6)
    p = torch.softmax(gaussian(64, classes, 1), dim=1)
    entropies = [stats.entropy(row, p.numpy().mean(axis=0)) for row in p.numpy()]
    assert metrics.inception_score(p, splits=1)[0] == pytest.approx(np.exp(np.mean(entropies)), rel=1e-9)
    with pytest.raises(ValueError, match="as many pictures, there are 3"):
        metrics.inception_score(p[:3], splits=10)


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one():
    values = gaussian(2000, 1, 1, shift=5)[:, 0]
    low, high = metrics.bootstrap_interval(values, 2000, generator())
    half = metrics.NORMAL_95 * values.std() / 2000**0.5
    assert (high - low) / 2 == pytest.approx(half.item(), rel=0.1)
    assert (high + low) / 2 == pytest.approx(values.mean().item(), abs=0.1 * half.item())


def test_the_interval_of_a_share():
    low, high = metrics.share_interval([(30, 100)])
    exact = stats.beta.ppf([0.025, 0.975], 30.5, 70.5)
    assert (low, high) == pytest.approx(tuple(exact), abs=0.005)
    assert metrics.share_interval([(0, 12)])[0] == 0
    assert 0.1 < metrics.share_interval([(0, 12)])[1] < 0.25  # twelve misses do not prove a zero
    assert metrics.share_interval([(5, 5)])[1] == 1
    # The mean of two tasks is surer than either.
    alone, both = metrics.share_interval([(50, 100)]), metrics.share_interval([(50, 100)] * 2)
    assert both[1] - both[0] == pytest.approx((alone[1] - alone[0]) / 2**0.5, rel=0.05)
