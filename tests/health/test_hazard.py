"""Hazards: conjugate updates, discounting, the prior that a class gives itself, and what follows a failure."""

import math

import numpy as np
import pytest

from platformops.health.hazard import (
    DAY_S,
    HALF_LIFE_S,
    PUBLISHED,
    PUBLISHED_PER_S,
    HazardPrior,
    NodeHistory,
    class_prior,
    expected_failures,
    failure_probability,
    fit_prior,
    hazard_per_s,
    steady_per_s,
    watched,
)


def history_of(rate_per_day, days, rng):
    history = NodeHistory(0.0)
    for day in range(1, days + 1):
        history = watched(history, day * DAY_S, failures=int(rng.poisson(rate_per_day)))
    return history


def test_a_node_that_nobody_has_watched_has_the_published_hazard():
    assert hazard_per_s(NodeHistory(0.0), PUBLISHED, 0.0) == pytest.approx(PUBLISHED_PER_S)


def test_watching_in_many_steps_gives_what_one_step_gives():
    once = watched(NodeHistory(0.0), 40 * DAY_S)
    often = NodeHistory(0.0)
    for day in range(1, 41):
        often = watched(often, day * DAY_S)
    assert often.exposure_s == pytest.approx(once.exposure_s)
    assert once.exposure_s < 40 * DAY_S


def test_a_failure_counts_half_after_the_half_life():
    history = watched(watched(NodeHistory(0.0), 0.0, failures=1), HALF_LIFE_S)
    assert history.failures == pytest.approx(0.5)


def test_the_hazard_is_highest_just_after_a_failure_and_settles_within_days():
    history = watched(watched(NodeHistory(0.0), 30 * DAY_S), 30 * DAY_S, failures=1)
    hazards = [hazard_per_s(history, PUBLISHED, (30 + days) * DAY_S) for days in (0, 1, 3, 10)]
    assert hazards == sorted(hazards, reverse=True)
    assert hazards[-1] == pytest.approx(steady_per_s(history, PUBLISHED), rel=0.01)
    assert failure_probability(expected_failures(history, PUBLISHED, 30 * DAY_S, DAY_S)) > 0.08


def test_expected_failures_are_the_integral_of_the_hazard():
    history = watched(NodeHistory(0.0), 10 * DAY_S, failures=2)
    steps = np.linspace(10 * DAY_S, 17 * DAY_S, 20_001)
    hazards = [hazard_per_s(history, PUBLISHED, t) for t in steps]
    assert expected_failures(history, PUBLISHED, 10 * DAY_S, 7 * DAY_S) == pytest.approx(
        np.trapezoid(hazards, steps), rel=1e-4
    )


@pytest.mark.parametrize("shape", [0.5, 2.0])
def test_the_prior_of_a_class_finds_the_mean_and_spread_that_made_it(shape):
    rng = np.random.default_rng(3)
    rates = rng.gamma(shape, 0.02 / shape, 3000)
    prior = class_prior([history_of(rate, 200, rng) for rate in rates[:600]])
    assert prior.mean_per_s * DAY_S == pytest.approx(rates[:600].mean(), rel=0.1)
    assert prior.shape == pytest.approx(shape, rel=0.5)


def test_a_class_without_failures_is_not_called_immortal():
    prior = class_prior([watched(NodeHistory(0.0), 30 * DAY_S) for _ in range(20)])
    assert 0.0 < prior.mean_per_s < PUBLISHED_PER_S


def test_a_handful_of_nodes_does_not_set_how_alike_nodes_are():
    prior = fit_prior(np.asarray([1.0, 1.0]), np.asarray([DAY_S, DAY_S]))
    assert prior.shape <= PUBLISHED.shape


def test_an_empty_class_takes_the_fallback():
    assert class_prior([], fallback=HazardPrior(2.0, 5.0)) == HazardPrior(2.0, 5.0)


def test_a_lemon_is_told_from_a_node_that_failed_once():
    prior = HazardPrior(2.0, 2.0 / PUBLISHED_PER_S)
    once = watched(watched(NodeHistory(0.0), 30 * DAY_S), 30 * DAY_S, failures=1)
    lemon = watched(once, 40 * DAY_S, failures=5)
    assert steady_per_s(lemon, prior) > 2 * steady_per_s(once, prior)


def test_small_probabilities_keep_their_digits():
    assert failure_probability(1e-12) == pytest.approx(1e-12, rel=1e-6)
    assert math.isclose(failure_probability(50.0), 1.0)
