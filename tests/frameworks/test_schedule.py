"""One cycle of the learning rate, fitted to steps or to time, whichever ends first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.frameworks.schedule import FIRST, Schedule

SCHEDULE = Schedule(peak=2.0, total_steps=1000, time_limit_s=100.0, warmup=0.25, last=0.1)


def test_without_a_time_limit_progress_is_the_share_of_steps():
    assert Schedule(1.0, 1000, None).progress(250, elapsed_s=1e9) == 0.25


def test_a_slow_machine_goes_by_time_and_a_fast_one_by_steps():
    assert SCHEDULE.progress(100, elapsed_s=50.0) == 0.5
    assert SCHEDULE.progress(600, elapsed_s=50.0) == 0.6


def test_progress_ends_at_one():
    assert SCHEDULE.progress(5000, elapsed_s=0.0) == 1.0
    assert SCHEDULE.progress(0, elapsed_s=1e6) == 1.0


def test_the_rate_rises_to_its_peak_and_falls_to_its_end():
    rates = [SCHEDULE.rate(progress) for progress in (0.0, 0.25, 1.0)]
    assert rates == pytest.approx([2.0 * FIRST, 2.0, 0.2])


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_rate_has_one_peak(first, second):
    low, high = sorted((first, second))
    rising = SCHEDULE.rate(low) <= SCHEDULE.rate(high) + 1e-12
    falling = SCHEDULE.rate(low) + 1e-12 >= SCHEDULE.rate(high)
    assert rising if high <= 0.25 else falling if low >= 0.25 else True
