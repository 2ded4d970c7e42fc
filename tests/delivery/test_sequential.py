"""The tests hold however often one looks: checked exactly, by simulation, and against fixed-sample tests of scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from platformops.delivery.contrast import NO_EVIDENCE, Block, bet, evidence, joined
from platformops.delivery.sequential import (
    LEAK_RATES,
    above,
    below,
    lower_bound,
    mean_above,
    mean_upper_bound,
    mixture,
    quantile_bounds,
    record_log_odds,
    upper_bound,
)

ALPHA = 0.05
ALARM = math.log(1 / ALPHA)


def noise(ratio, runs):
    """Four standard errors of a simulated ratio."""
    return 4 * math.sqrt(ratio * (1 - ratio) / runs)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.5, 0.97])
@pytest.mark.parametrize("trials", [1, 7, 60])
@pytest.mark.parametrize("test", [above, below])
def test_evidence_is_expected_to_stay_at_one_on_the_boundary_of_the_null(test, limit, trials):
    chances = stats.binom.pmf(np.arange(trials + 1), trials, limit)
    expected = sum(c * math.exp(test(y, trials, limit)) for y, c in enumerate(chances))
    assert expected == pytest.approx(1.0)


def test_evidence_is_expected_to_shrink_inside_the_null():
    chances = stats.binom.pmf(np.arange(41), 40, 0.03)
    assert sum(c * math.exp(above(y, 40, 0.05)) for y, c in enumerate(chances)) < 0.9


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_looking_after_each_trial_raises_no_more_false_alarms_than_allowed(rate):
    luck, runs, trials = np.random.default_rng(1), 150, 300
    failures = (luck.random((runs, trials)) < rate).cumsum(axis=1)
    alarms = sum(any(above(y, n, rate) >= ALARM for n, y in enumerate(row, 1)) for row in failures.tolist())
    assert alarms / runs <= ALPHA + noise(ALPHA, runs)


def test_a_fixed_sample_test_that_is_looked_at_after_each_trial_raises_many():
    """Why there are tests like ours: the same stream, and the exact binomial test of scipy."""
    luck, runs, trials = np.random.default_rng(1), 200, 400
    failures = (luck.random((runs, trials)) < 0.2).cumsum(axis=1)
    p_values = stats.binom.sf(failures - 1, np.arange(1, trials + 1), 0.2)
    assert ((p_values <= ALPHA).any(axis=1)).mean() > 3 * ALPHA


def test_bounds_hold_at_all_times_together_and_close_in_on_the_rate():
    luck, runs, rate = np.random.default_rng(2), 150, 0.05
    looks = [10, 30, 100, 300, 1000, 3000]
    failures = (luck.random((runs, looks[-1])) < rate).cumsum(axis=1)[:, [n - 1 for n in looks]]
    wrong = 0
    for row in failures.tolist():
        uppers = [upper_bound(y, n, ALPHA) for n, y in zip(looks, row, strict=True)]
        lowers = [lower_bound(y, n, ALPHA) for n, y in zip(looks, row, strict=True)]
        wrong += min(uppers) < rate or max(lowers) > rate
        assert uppers[-1] - lowers[-1] < 0.04
    assert wrong / runs <= 2 * ALPHA + noise(2 * ALPHA, runs)


@pytest.mark.parametrize(("failures", "trials"), [(0, 50), (3, 200), (200, 200), (40, 4000)])
def test_a_bound_is_wider_than_the_fixed_sample_bound_but_less_than_twice(failures, trials):
    """Clopper and Pearson's bound holds at one sample size only."""
    fixed = stats.binomtest(failures, trials).proportion_ci(1 - 2 * ALPHA, method="exact").high
    ours, estimate = upper_bound(failures, trials, ALPHA), failures / trials
    assert fixed - 1e-9 <= ours <= 1
    assert ours - estimate <= 2.0 * (fixed - estimate) + 1e-9


def test_no_observation_bounds_nothing():
    assert (upper_bound(0, 0, ALPHA), lower_bound(0, 0, ALPHA)) == (1.0, 0.0)
    assert above(0, 0, 0.1) == 0.0


def test_an_impossible_failure_is_all_the_evidence_there_can_be():
    assert above(1, 1000, 0.0) == math.inf
    assert above(0, 1000, 0.0) == 0.0


def equal_streams(block_sizes, rate, runs, luck, *, is_worse=True):
    """How often two streams of one rate are told apart, looking after each block."""
    alarms = 0
    for _ in range(runs):
        logs = NO_EVIDENCE
        for a, b in block_sizes:
            block = Block(a, int(luck.binomial(a, rate)), b, int(luck.binomial(b, rate)))
            logs = bet(logs, block, 0.05, is_worse=is_worse)
            if evidence(logs) >= ALARM:
                alarms += 1
                break
    return alarms / runs


@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (4, 6)])
@pytest.mark.parametrize("common", [0.02, 0.4])
@pytest.mark.parametrize("is_worse", [True, False])
def test_equal_streams_are_expected_to_give_no_evidence_whatever_their_common_rate(sizes, common, is_worse):
    a, b = sizes
    expected = 0.0
    for y in range(a + 1):
        for z in range(b + 1):
            chance = stats.binom.pmf(y, a, common) * stats.binom.pmf(z, b, common)
            logs = bet(NO_EVIDENCE, Block(a, y, b, z), 0.1, is_worse=is_worse)
            expected += chance * math.exp(evidence(logs))
    assert expected <= 1 + 1e-9


@pytest.mark.parametrize("sizes", [[(1, 1)] * 200, [(1, 99)] * 150, [(5, 3), (2, 40)] * 50])
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_equal_streams_raise_no_more_alarms_than_allowed(sizes, rate):
    ratio = equal_streams(sizes, rate, 100, np.random.default_rng(3))
    assert ratio <= ALPHA + noise(ALPHA, 100)


def test_a_better_stream_is_no_reason_for_an_alarm():
    luck = np.random.default_rng(4)
    logs = NO_EVIDENCE
    for _ in range(300):
        logs = bet(logs, Block(10, int(luck.binomial(10, 0.1)), 10, int(luck.binomial(10, 0.3))), 0.3, is_worse=True)
    assert evidence(logs) < -5


def test_an_outage_that_hits_both_streams_is_no_evidence_against_one():
    before = bet(NO_EVIDENCE, Block(50, 1, 50, 1), 0.01, is_worse=True)
    outage = bet(before, Block(50, 40, 50, 41), 0.01, is_worse=True)
    assert evidence(outage) < evidence(before) + 0.5


def test_requests_to_detection_are_within_twice_those_of_the_fixed_sample_test_of_the_same_power():
    """One point more errors on top of 0.1 %, 80 % power: Fisher's test must be told its sample size beforehand."""
    luck, runs, fixed = np.random.default_rng(5), 120, 1100
    rates, detected = (0.011, 0.001), []
    tables = luck.binomial(fixed, rates, (runs, 2))
    rejected = [
        stats.fisher_exact([[a, fixed - a], [b, fixed - b]], alternative="greater").pvalue <= 0.01 for a, b in tables
    ]
    for _ in range(runs):
        logs, n = NO_EVIDENCE, 0
        while evidence(logs) < math.log(100) and n < 10 * fixed:
            n += 10
            logs = bet(logs, Block(10, int(luck.binomial(10, 0.011)), 10, int(luck.binomial(10, 0.001))), 0.002,
                       is_worse=True)  # fmt: skip
        detected.append(n)
    assert 0.6 < np.mean(rejected) < 0.95
    assert np.quantile(detected, 0.8) < 2 * fixed
    assert np.median(detected) < 1.3 * fixed


def test_strata_with_different_rates_are_not_mistaken_for_a_difference():
    """Pooled, the first stream has more failures only because it sits on the bad node more often."""
    luck = np.random.default_rng(6)
    good, bad, pooled = NO_EVIDENCE, NO_EVIDENCE, NO_EVIDENCE
    for _ in range(200):
        on_good = Block(1, int(luck.binomial(1, 0.01)), 9, int(luck.binomial(9, 0.01)))
        on_bad = Block(9, int(luck.binomial(9, 0.2)), 1, int(luck.binomial(1, 0.2)))
        good, bad = bet(good, on_good, 0.01, is_worse=True), bet(bad, on_bad, 0.2, is_worse=True)
        pooled = bet(pooled, joined(on_good, on_bad), 0.05, is_worse=True)
    assert evidence(pooled) > 20
    assert evidence(good, bad) < ALARM


def test_a_one_sided_block_says_nothing():
    assert bet(NO_EVIDENCE, Block(5, 5, 0, 0), 0.1, is_worse=True) == NO_EVIDENCE


@pytest.mark.parametrize("limit", [-0.02, 0.0, 0.05])
def test_evidence_on_a_mean_of_differences_is_expected_to_stay_at_one_on_its_boundary(limit):
    p_plus, p_minus, n = 0.1 + max(limit, 0), 0.1 - min(limit, 0), 12
    expected = 0.0
    for plus in range(n + 1):
        for minus in range(n + 1 - plus):
            zero = n - plus - minus
            chance = stats.multinomial.pmf([minus, zero, plus], n, [p_minus, 1 - p_plus - p_minus, p_plus])
            expected += chance * math.exp(mean_above(minus, zero, plus, limit))
    assert expected == pytest.approx(1.0)


def test_the_bound_of_a_mean_difference_holds_at_all_times_and_is_near_the_normal_one():
    luck, runs, mean = np.random.default_rng(7), 150, 0.03
    wrong, widths = 0, []
    for _ in range(runs):
        draws = luck.choice([-1, 0, 1], p=[0.02, 0.93, 0.05], size=2000)
        bounds = [
            mean_upper_bound(*(int((draws[:n] == v).sum()) for v in (-1, 0, 1)), ALPHA) for n in (20, 100, 500, 2000)
        ]
        wrong += min(bounds) < mean
        widths.append(bounds[-1] - draws.mean())
    normal = stats.norm.ppf(1 - ALPHA) * math.sqrt(0.07 / 2000)
    assert wrong / runs <= ALPHA + noise(ALPHA, runs)
    assert normal < np.median(widths) < 2.2 * normal


def test_the_mean_of_nothing_and_of_ones_alone_has_no_bound_below_one():
    assert mean_upper_bound(0, 0, 0, ALPHA) == 1.0
    assert mean_upper_bound(0, 0, 7, ALPHA) == 1.0


def test_the_bounds_of_a_quantile_hold_at_all_times_together():
    luck, runs, true = np.random.default_rng(8), 150, 9  # of a geometric distribution
    q = float(stats.geom.cdf(true, 0.1)) - 1e-9
    wrong = 0
    for _ in range(runs):
        draws = luck.geometric(0.1, size=1500)
        for n in (50, 200, 600, 1500):
            values, counts = np.unique(draws[:n], return_counts=True)
            low, high = quantile_bounds(dict(zip(values.tolist(), counts.tolist(), strict=True)), q, ALPHA)
            if (low is not None and low > true) or (high is not None and high < true):
                wrong += 1
                break
    assert wrong / runs <= ALPHA + noise(ALPHA, runs)
    assert low is not None
    assert high is not None
    assert low <= true <= high <= low + 5


def test_too_few_observations_bound_an_extreme_quantile_from_below_only():
    assert quantile_bounds({3: 20}, 0.99, ALPHA) == (3, None)
    assert quantile_bounds({}, 0.5, ALPHA) == (None, None)


def leak_alarms(levels):
    total, peak = np.zeros(len(LEAK_RATES)), -math.inf
    for index, level in enumerate(levels, 1):
        if index > 1:
            total += record_log_odds(index, is_record=level > peak)
        peak = max(peak, level)
        if mixture(total.tolist()) >= ALARM:
            return index
    return None


def test_levels_in_any_order_raise_no_more_leak_alarms_than_allowed():
    luck, runs = np.random.default_rng(9), 400
    alarms = sum(leak_alarms(luck.normal(size=100)) is not None for _ in range(runs))
    assert alarms / runs <= ALPHA


def test_a_level_that_sets_no_record_at_all_is_no_evidence_of_a_leak():
    assert leak_alarms([5.0] * 300) is None


def test_a_leak_is_found_within_fifteen_samples():
    luck = np.random.default_rng(10)
    found = [leak_alarms(np.arange(60) + luck.normal(0, 0.3, 60)) for _ in range(50)]
    assert None not in found
    assert np.median(found) <= 15


def test_a_leak_that_shows_in_one_sample_of_thirty_is_found_later():
    levels = np.floor(np.arange(2000) / 30)
    assert 200 < leak_alarms(levels) < 2000


def test_a_mean_of_e_values_is_never_weaker_than_bonferroni():
    logs, weights = [math.log(60.0), -3.0, 0.1], [0.4, 0.3, 0.3]
    assert mixture(logs, weights) >= max(log + math.log(w) for log, w in zip(logs, weights, strict=True))
    assert mixture([-math.inf, -math.inf]) == -math.inf
    assert mixture([math.inf, 0.0]) == math.inf
