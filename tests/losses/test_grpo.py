"""Group advantages, and the gradient of the clipped loss against its formula."""

import math

import pytest
import torch

from daybreak.losses.grpo import LEAST_SPREAD, clipped_loss, group_advantages
from daybreak.sampling.stochastic import gaussian_step


def test_advantages_are_over_the_group_s_own_mean_and_spread():
    rewards = torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2], [9.0, 9.0, 9.0, 5.0]])
    found = group_advantages(rewards)
    by_hand = 0.5 / (math.sqrt((0.25 + 0.25) / 4) + LEAST_SPREAD)
    torch.testing.assert_close(found[0], torch.tensor([by_hand, -by_hand, 0.0, 0.0]))
    assert found[1].abs().max() == 0  # nothing to tell them apart by
    torch.testing.assert_close(group_advantages(10 * rewards + 3)[2], found[2], rtol=1e-3, atol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.zeros(3), atol=1e-5, rtol=0)


# Of a policy that predicts x0 = w x: advantage, by how much w has moved since the picture was drawn, and whether the
# clipped ratio stands in the loss, which then has no gradient.
@pytest.mark.parametrize(
    ("advantage", "moved", "clipped"),
    [(1.5, 0, False), (-0.5, 0, False), (1.5, 0.3, True), (-0.5, 0.3, False), (1.5, -0.3, False), (-0.5, -0.3, True)],
)
def test_the_gradient_is_that_of_the_formula(advantage, moved, clipped):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 4, 4, generator=g, dtype=torch.float64)
    drawn_with, a, t, then, clip = 0.4, 0.7, 0.6, 0.5, 0.02
    now, after = (torch.tensor([v], dtype=torch.float64) for v in (t, then))

    def step(w):
        return gaussian_step(lambda x, _: w * x, x, now, after, a, 1.0)

    # A state that is likelier where w is larger: further along than the step's mean.
    taken = step(drawn_with).mean + 3 * (step(drawn_with + 0.2).mean - step(drawn_with).mean)
    before = step(drawn_with).log_prob(taken)
    w = torch.tensor(drawn_with + moved, dtype=torch.float64, requires_grad=True)
    clipped_loss(step(w).log_prob(taken), before, torch.tensor([advantage]), clip).sum().backward()

    # v = (1 - w) x / t, and the mean is linear in v: its derivative by w, and then that of the density and the ratio.
    c, dt = a**2 / (2 * (1 - t)), then - t
    of_mean = -dt * (1 + c * (1 - t)) * x / t
    mean = x + dt * ((1 - w.item()) * x / t + c * (x + (1 - t) * (1 - w.item()) * x / t))
    variance = a**2 * t / (1 - t) * -dt
    log_ratio = ((taken - (step(drawn_with).mean)) ** 2 - (taken - mean) ** 2).mean() / (2 * variance)
    assert (abs(log_ratio.exp().item() - 1) > clip) == (moved != 0)
    of_log_prob = ((taken - mean) * of_mean).mean() / variance
    expected = 0.0 if clipped else -(advantage * log_ratio.exp() * of_log_prob).item()
    assert w.grad.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert clipped or abs(expected) > 1e-3
