"""Diffusion-DPO's loss: against an independent formula, and what has to hold of it."""

import math

import numpy as np
import torch

from daybreak.losses.preference import PairErrors, dpo_loss

BETA = 7.0


def by_hand(model, reference, inputs, targets):
    """Equation 14 of arXiv 2311.12908 as it is written there, in numpy, with its gradient by finite differences.

    inputs, targets: of winners, of losers. The model predicts w * x; its errors are means of squares.
    """

    def loss(w):
        total = 0.0
        for x_w, x_l, v_w, v_l in zip(*inputs, *targets, strict=True):
            of = [((w * x - v) ** 2).mean() - ((reference * x - v) ** 2).mean() for x, v in ((x_w, v_w), (x_l, v_l))]
            total += -math.log(1 / (1 + math.exp(0.5 * BETA * (of[0] - of[1]))))
        return total / len(inputs[0])

    step = 1e-5
    return loss(model), (loss(model + step) - loss(model - step)) / (2 * step)


def pairs(seed=0, n=5):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(n, 3)) for _ in range(2)), tuple(rng.normal(size=(n, 3)) for _ in range(2))


def ours(model, reference, inputs, targets):
    w = torch.tensor(model, dtype=torch.float64, requires_grad=True)

    def errors(weight):
        parts = []
        for x, v in ((inputs[0], targets[0]), (inputs[1], targets[1])):
            parts.append((weight * torch.tensor(x) - torch.tensor(v)).square().mean(dim=1))
        return PairErrors(*parts)

    terms = dpo_loss(errors(w), errors(torch.tensor(reference, dtype=torch.float64)), BETA)
    terms["preference"].backward()
    return terms, w.grad.item()


def test_value_and_gradient_are_the_papers():
    inputs, targets = pairs()
    expected, slope = by_hand(0.4, 0.1, inputs, targets)
    terms, gradient = ours(0.4, 0.1, inputs, targets)
    assert math.isclose(terms["preference"].item(), expected, rel_tol=1e-9)
    assert math.isclose(gradient, slope, rel_tol=1e-6)


def test_where_model_and_reference_agree_the_loss_is_log_2_and_nothing_is_told_apart():
    terms, _ = ours(0.3, 0.3, *pairs())
    assert math.isclose(terms["preference"].item(), math.log(2), rel_tol=1e-12)
    assert float(terms["told_apart"]) == 0.5 and float(terms["margin"]) == 0.0


def test_a_pair_and_the_same_pair_swapped_cancel_at_the_reference():
    (a, b), (u, v) = pairs()
    _, gradient = ours(0.3, 0.3, (a, b), (u, v))
    _, swapped = ours(0.3, 0.3, (b, a), (v, u))
    both = ours(0.3, 0.3, (np.concatenate([a, b]), np.concatenate([b, a])),
                (np.concatenate([u, v]), np.concatenate([v, u])))[1]  # fmt: skip
    assert abs(gradient) > 1e-3
    assert math.isclose(gradient, -swapped, rel_tol=1e-12) and abs(both) < 1e-15


def test_a_step_down_the_gradient_makes_winners_likelier_against_losers():
    inputs, targets = pairs(3)
    terms, gradient = ours(0.2, 0.2, inputs, targets)
    after, _ = ours(0.2 - 0.05 * gradient, 0.2, inputs, targets)
    assert after["margin"] > terms["margin"] and after["preference"] < terms["preference"]
