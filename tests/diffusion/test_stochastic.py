"""The stochastic sampler: its steps are Gaussians, it is Euler's without noise, and it keeps the distributions."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from daybreak.config import ModelConfig
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextTokens
from daybreak.model.transformer import Transformer
from daybreak.sampling.guidance import classifier_free, conditional
from daybreak.sampling.sampler import euler
from daybreak.sampling.stochastic import GaussianStep, gaussian_step

MEAN, SPREAD = 0.3, 0.5


def denoiser_of_a_gaussian(noise_scale: float):
    """E[x0 | x_t] where x0 is N(MEAN, SPREAD^2) and the noise N(0, noise_scale^2)."""

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        time = t.view(-1, 1, 1, 1)
        gain = (1 - time) * SPREAD**2 / ((1 - time) ** 2 * SPREAD**2 + (noise_scale * time) ** 2)
        return MEAN + gain * (x - (1 - time) * MEAN)

    return denoise


def sampled(denoise, x: torch.Tensor, times: torch.Tensor, level: float, noise_scale: float, generator):
    """The states at all `times`."""
    yield x
    for now, then in pairwise(times):
        step = gaussian_step(denoise, x, now.expand(len(x)), then.expand(len(x)), level, noise_scale)
        x = step.at(torch.randn(x.shape, generator=generator))
        yield x


def test_likelihood_and_kl_are_those_of_torch_s_distributions():
    g = torch.Generator().manual_seed(0)
    mean, other, x = (torch.randn(4, 3, 8, 8, generator=g) for _ in range(3))
    std = torch.tensor([0.05, 0.3, 1.0, 2.0])
    ours, reference = Normal(mean, std.view(4, 1, 1, 1)), Normal(other, std.view(4, 1, 1, 1))
    step = GaussianStep(mean, std)
    torch.testing.assert_close(step.log_prob(x), ours.log_prob(x).mean(dim=(1, 2, 3)))
    torch.testing.assert_close(step.kl(GaussianStep(other, std)), kl_divergence(ours, reference).mean(dim=(1, 2, 3)))
    assert step.kl(step).abs().max() == 0
    noise = torch.randn(mean.shape, generator=g)
    torch.testing.assert_close(step.at(noise), mean + std.view(4, 1, 1, 1) * noise)


@pytest.mark.parametrize("noise_scale", [1.0, 2.0])
def test_a_step_is_the_paper_s_equation(noise_scale):
    """Equation 9 of arXiv 2505.05470 in float64. With noise of another scale, x / s is the paper's x."""
    g = torch.Generator().manual_seed(1)
    x = noise_scale * torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64)
    x0 = torch.rand(2, 3, 4, 4, generator=g, dtype=torch.float64)
    a, now, then = 0.7, torch.tensor([0.9, 0.4], dtype=torch.float64), torch.tensor([0.8, 0.25], dtype=torch.float64)
    step = gaussian_step(lambda *_: x0, x, now, then, a, noise_scale)
    for i, (t, dt) in enumerate(zip(now.tolist(), (then - now).tolist(), strict=True)):
        sigma = a * math.sqrt(t / (1 - t))
        scaled, v = x[i] / noise_scale, (x[i] - x0[i]) / t / noise_scale
        expected = scaled + (v + sigma**2 / (2 * t) * (scaled + (1 - t) * v)) * dt
        torch.testing.assert_close(step.mean[i], noise_scale * expected)
        assert step.std[i].item() == pytest.approx(noise_scale * sigma * math.sqrt(-dt))


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_without_noise_it_is_eulers_method_to_the_bit(guidance):
    torch.manual_seed(0)
    model = Transformer(ModelConfig(width=32, depth=2, heads=2, patch=4), 24)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
        text = TextTokens(torch.randn(3, 4, 24), torch.ones(3, 4, dtype=torch.bool), padded=False)
        empty = TextTokens(torch.randn(3, 1, 24), torch.ones(3, 1, dtype=torch.bool), padded=False)
        denoise = conditional(model, text) if guidance == 1 else classifier_free(model, text, empty, guidance)
        noise, times = torch.randn(3, 3, 16, 16), sampling_times(6, 2.0)
        *_, picture = sampled(denoise, noise, times, 0.0, 1.0, torch.Generator())
        assert torch.equal(picture, euler(denoise, noise, times))
        assert picture.std() > 0.1


@pytest.mark.parametrize("noise_scale", [1.0, 2.0])
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_mean_and_variance_at_every_time_are_those_of_the_path(level, noise_scale):
    g = torch.Generator().manual_seed(2)
    times = sampling_times(300, 2.0)
    begin = noise_scale * torch.randn(8, 3, 32, 32, generator=g)
    states = sampled(denoiser_of_a_gaussian(noise_scale), begin, times, level, noise_scale, g)
    numbers = begin.numel()
    for i, (t, x) in enumerate(zip(times.tolist(), states, strict=True)):
        if i % 60 == 0:
            spread = math.hypot((1 - t) * SPREAD, t * noise_scale)
            assert x.mean().item() == pytest.approx((1 - t) * MEAN, abs=4 * spread / math.sqrt(numbers))
            # 4 standard errors of a standard deviation, and what remains of 300 steps
            assert x.std().item() == pytest.approx(spread, rel=4 / math.sqrt(2 * numbers) + 0.015)
    apart = (x - MEAN - SPREAD * begin / noise_scale).square().mean().sqrt() / SPREAD
    assert (apart > 0.5) == (level > 0)  # the ordinary equation's picture is a function of its first noise
