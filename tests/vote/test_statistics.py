"""Against scipy, closed forms, published tables and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest

from daybreak.vote.statistics import (
    bradley_terry,
    cohen_kappa,
    fleiss_kappa,
    observed_agreement,
    wilson,
    win_rate,
)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 12), (7, 12), (12, 12), (501, 1000)])
def test_wilson_is_scipys(k, n):
    reference = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_one_vote_a_prompt_gives_the_plain_wilson_interval():
    outcomes = np.array([1.0] * 14 + [0.0] * 6)
    rate = win_rate(outcomes, np.arange(20))
    reference = binomtest(14, 20).proportion_ci(0.95, method="wilson")
    # G/(G-1) makes the variance between prompts a little larger than the binomial one.
    assert rate.effective == 20 * 19 / 20 or rate.effective == 20
    assert (rate.low, rate.high) == pytest.approx((reference.low, reference.high), abs=0.01)


def test_votes_that_copy_each_other_count_once():
    outcomes = np.array([1.0] * 14 + [0.0] * 6)
    once = win_rate(outcomes, np.arange(20))
    five_times = win_rate(np.repeat(outcomes, 5), np.repeat(np.arange(20), 5))
    assert five_times.n == 100
    assert five_times.effective == pytest.approx(20, abs=1.01)
    assert (five_times.low, five_times.high) == pytest.approx((once.low, once.high), abs=0.01)


def test_unanimous_voters_are_worth_their_prompts():
    rate = win_rate(np.ones(30), np.repeat(np.arange(10), 3))
    assert (rate.rate, rate.n, rate.effective) == (1.0, 30, 10)
    assert rate.low == pytest.approx(binomtest(10, 10).proportion_ci(0.95, method="wilson").low)


def test_no_votes_say_nothing():
    rate = win_rate(np.array([]), np.array([], dtype=int))
    assert math.isnan(rate.rate)
    assert (rate.low, rate.high) == (0, 1)


def test_win_rates_interval_covers_the_truth_where_prompts_differ():
    """200 studies of 30 prompts and 6 voters; prompts differ, voters of one prompt do not differ much."""
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(30), 6)
    hits = plain = 0
    for _ in range(200):
        chance = rng.beta(1.2, 0.8, 30)  # mean 0.6
        outcomes = (rng.random(180) < np.repeat(chance, 6)).astype(float)
        rate = win_rate(outcomes, prompts)
        hits += rate.low <= 0.6 <= rate.high
        low, high = wilson(outcomes.sum(), 180)
        plain += low <= 0.6 <= high
    assert hits / 200 > 0.90
    assert plain / 200 < 0.85  # what an interval that ignores prompts would have claimed as 95 %


def test_two_contestants_have_a_closed_form():
    wins = np.zeros((1, 2, 2))
    wins[0, 0, 1], wins[0, 1, 0] = 17.5, 4.5
    s = bradley_terry(wins)
    assert s.score[0] - s.score[1] == pytest.approx(math.log(18 / 5), abs=1e-9)
    error = math.sqrt(1 / 18 + 1 / 5) / 2  # of half the logit
    assert (s.high[0] - s.low[0]) / (2 * 1.959964) >= error - 1e-6


def test_scores_maximise_the_likelihood_as_scipy_finds_it():
    rng = np.random.default_rng(1)
    wins = rng.integers(0, 4, (15, 5, 5)).astype(float) * (1 - np.eye(5))
    total = wins.sum(0) + 0.5 * (1 - np.eye(5))

    def loss(free):
        s = np.append(free, -free.sum())
        return -sum(total[i, j] * math.log(expit(s[i] - s[j])) for i, j in itertools.permutations(range(5), 2))

    reference = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    found = bradley_terry(wins).score
    assert found.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found[:4], reference, atol=1e-5)


def test_a_contestant_that_always_wins_has_a_finite_score():
    wins = np.zeros((40, 3, 3))
    wins[:, 0, 1] = wins[:, 0, 2] = wins[:, 1, 2] = 1
    s = bradley_terry(wins)
    assert np.isfinite([s.score, s.low, s.high]).all()
    assert s.score[0] > s.score[1] > s.score[2]
    assert s.low[0] > 0 > s.high[2]


def test_no_votes_give_equal_scores():
    s = bradley_terry(np.zeros((0, 3, 3)))
    np.testing.assert_allclose(s.score, 0, atol=1e-12)
    assert (s.low < -1).all()


@pytest.mark.parametrize("copies", [1, 4])
def test_bradley_terry_intervals_cover_the_truth(copies):
    """150 simulated studies of 60 prompts; every vote is given `copies` times, by voters who copy each other."""
    rng = np.random.default_rng(2)
    truth = np.array([0.8, 0.0, -0.8])
    hits = 0
    for _ in range(150):
        wins = np.zeros((60, 3, 3))
        for i, j in itertools.combinations(range(3), 2):
            won = rng.random(60) < expit(truth[i] - truth[j])
            wins[won, i, j] = copies
            wins[~won, j, i] = copies
        s = bradley_terry(wins)
        hits += int(((s.low <= truth) & (truth <= s.high)).sum())
    assert hits / 450 > 0.92


def test_fleiss_kappa_of_the_textbook_table():
    """Fourteen raters, ten things, five categories: the table that Wikipedia's "Fleiss' kappa" works through."""
    table = "0 0 0 0 14, 0 2 6 4 2, 0 0 3 5 6, 0 3 9 2 0, 2 2 8 1 1, 7 7 0 0 0, 3 2 6 3 0, 2 5 3 2 2, 6 5 2 1 0, "
    table += "0 2 2 3 7"
    counts = np.array([[int(x) for x in row.split()] for row in table.split(",")])
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    assert observed_agreement(counts) == pytest.approx(0.378, abs=5e-4)


def test_cohens_kappa_of_the_textbook_table():
    """20 both yes, 15 both no, 5 and 10 mixed, of 50: kappa 0.4."""
    a = np.array([1] * 20 + [1] * 5 + [0] * 10 + [0] * 15)
    b = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_kappa_at_its_ends():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 3, (2, 20_000))
    assert cohen_kappa(a, b) == pytest.approx(0, abs=0.02)
    assert cohen_kappa(a, a) == 1
    assert fleiss_kappa(np.eye(3, dtype=int)[a] * 3) == pytest.approx(1)
    assert math.isnan(cohen_kappa(np.ones(4), np.ones(4)))
    assert math.isnan(fleiss_kappa(np.array([[3, 0, 0]] * 5)))
    assert math.isnan(fleiss_kappa(np.array([[1, 0, 0]] * 5)))  # nobody to agree with
