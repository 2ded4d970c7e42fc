"""A token bucket lets through its rate and says how long to wait."""

import pytest

from platformops.gateway.rates import take


def passes(rate_per_s, times):
    bucket, passed = None, 0
    for now in times:
        bucket, wait_s = take(bucket, rate_per_s=rate_per_s, now=now)
        passed += wait_s == 0
    return passed


def test_over_a_minute_no_more_than_the_rate_and_one_burst_pass():
    assert passes(5.0, [n / 100 for n in range(6000)]) == pytest.approx(5 * 60 + 5, abs=1)


def test_a_rate_below_one_a_second_still_lets_one_pass():
    assert passes(0.5, [0.0, 0.1, 1.9, 2.1]) == 2


def test_waiting_as_long_as_told_is_enough():
    bucket, _ = take(None, rate_per_s=1.0, now=0.0)
    bucket, wait_s = take(bucket, rate_per_s=1.0, now=0.25)
    assert wait_s == 0.75
    assert take(bucket, rate_per_s=1.0, now=0.25 + wait_s)[1] == 0
