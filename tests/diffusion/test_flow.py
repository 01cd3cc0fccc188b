"""The algebra of the path, the samplers on a problem with a known solution, guidance, times."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daybreak.diffusion import flow
from daybreak.diffusion.times import sample_times, sampling_times, shift_time
from daybreak.encoders.text import TextEncoder
from daybreak.losses.compute import velocity_loss
from daybreak.model.transformer import Transformer
from daybreak.sampling.guidance import classifier_free, conditional
from daybreak.sampling.sampler import SAMPLERS, euler, heun
from tests.conftest import tiny_config

G = torch.Generator().manual_seed(0)
X0 = torch.rand(4, 3, 8, 8, generator=G) * 2 - 1
NOISE = torch.randn(4, 3, 8, 8, generator=G)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.5, 2.0))
def test_velocity_is_the_path_s_derivative_and_to_x0_its_inverse(t, scale):
    time = torch.full((4,), t)
    x_t = flow.interpolate(X0, scale * NOISE, time)
    v = flow.velocity(x_t, X0, time, floor=0.05)
    assert torch.allclose(v, scale * NOISE - X0, atol=1e-4)
    assert torch.allclose(flow.to_x0(x_t, v, time, floor=0.05), X0, atol=1e-5)


def test_ends_of_the_path():
    assert torch.equal(flow.interpolate(X0, NOISE, torch.zeros(4)), X0)
    assert torch.equal(flow.interpolate(X0, NOISE, torch.ones(4)), NOISE)


def test_the_loss_is_the_pixel_error_over_t_squared():
    t = torch.tensor([0.01, 0.05, 0.5, 1.0])
    guess = X0 + 0.1
    loss = velocity_loss(guess, X0, flow.interpolate(X0, NOISE, t), t, floor=0.05)
    assert torch.allclose(loss, 0.01 / torch.tensor([0.05, 0.05, 0.5, 1.0]) ** 2, rtol=1e-3)
    assert velocity_loss(X0, X0, NOISE, t, floor=0.05).max() == 0


def gaussian_denoiser(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[x0 | x_t] for x0 ~ N(m, s^2): the exact denoiser of a Gaussian."""
    m, s, time = 0.3, 0.5, t.view(-1, 1, 1, 1)
    gain = (1 - time) * s**2 / ((1 - time) ** 2 * s**2 + time**2)
    return m + gain * (x - (1 - time) * m)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_samplers_converge_to_the_exact_solution_at_their_order(sampler, order):
    # The probability flow of a Gaussian is linear: it maps noise z to m + s z.
    exact = 0.3 + 0.5 * NOISE
    drawn = [sampler(gaussian_denoiser, NOISE, sampling_times(n, shift=1.0)) for n in (20, 40, 80)]
    errors = [(x - exact).abs().max().item() for x in drawn]
    assert errors[2] < errors[1] < errors[0]
    assert errors[0] / errors[2] > 0.75 * 4**order
    assert errors[2] < 0.05


def test_a_perfect_denoiser_is_reached_exactly_by_either_sampler():
    for sampler in SAMPLERS.values():
        assert torch.allclose(sampler(lambda x, t: X0, NOISE, sampling_times(5, 3.0)), X0, atol=1e-5)  # noqa: ARG005


def test_times():
    t = sample_times(20_000, 3.0, torch.Generator().manual_seed(1))
    assert t.min() > 0
    assert t.max() < 1
    assert t.median().item() == pytest.approx(0.75, abs=0.01)  # 3 * 0.5 / (1 + 2 * 0.5)
    times = sampling_times(10, 3.0)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    assert torch.allclose(shift_time(times, 1.0), times)


def test_guidance():
    config = tiny_config()
    torch.manual_seed(0)
    encoder = TextEncoder.create(["a red circle", "a blue square"], config.text).eval()
    model = Transformer(config.model, encoder.width).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0.6, 0.6])
    with torch.no_grad():
        text, empty = encoder(["a red circle", "a blue square and more"]), encoder(["", ""])
        with_text, without = conditional(model, text)(x, t), conditional(model, empty)(x, t)
        guided = classifier_free(model, text, empty, 3.0)(x, t)
        assert (with_text - without).abs().max() > 1e-3
        assert torch.allclose(guided, without + 3 * (with_text - without), atol=1e-4)
        assert torch.equal(classifier_free(model, text, empty, 1.0)(x, t), with_text)
        outside = classifier_free(model, text, empty, 3.0, (0.7, 1.0))(x, t)
        assert torch.equal(outside, with_text)
