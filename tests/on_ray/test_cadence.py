"""Checkpoints come as often as they pay, and sooner on a machine where workers die."""

import pytest

from platformops.clock import ManualClock
from platformops.on_ray.cadence import FIRST_S, LONGEST_S, Cadence
from platformops.scheduler.interval import young_s


def written_in(clock, cadence, duration_s, *, cost_s, step_s=0.1):
    """When checkpoints were written, each at a cost."""
    at, end = [], clock.monotonic() + duration_s
    while clock.monotonic() < end:
        clock.sleep(step_s)
        if cadence.is_due():
            clock.sleep(cost_s)
            cadence.saved(cost_s)
            at.append(clock.monotonic())
    return at


def test_youngs_interval_of_a_textbook_example():
    assert young_s(60.0, 24 * 3600.0) == pytest.approx(3219.9, abs=0.1)


def test_the_first_checkpoint_comes_early_and_the_rest_cost_little():
    clock = ManualClock(0.0)
    at = written_in(clock, Cadence(clock, failures=0), 600.0, cost_s=0.03)
    assert at[0] == pytest.approx(FIRST_S, abs=0.3)
    assert len(at) * 0.03 / 600.0 < 0.01


def test_failures_make_checkpoints_come_more_often():
    clock = ManualClock(0.0)
    calm = written_in(clock, Cadence(clock, failures=0), 300.0, cost_s=0.1)
    rough = written_in(clock, Cadence(clock, failures=9), 300.0, cost_s=0.1)
    assert len(rough) > 2 * len(calm)


def test_a_hazard_of_its_nodes_that_rises_makes_checkpoints_come_more_often_at_once(tmp_path):
    clock, hazard = ManualClock(0.0), tmp_path / "hazard"
    cadence = Cadence(clock, failures=0, hazard=hazard)
    cadence.saved(0.1)
    clock.sleep(300.0)
    calm_s = cadence.interval_s()
    hazard.write_text("0.01")
    clock.sleep(1.0)
    cadence.is_due()
    assert cadence.interval_s() == pytest.approx(young_s(0.1, 1 / (0.01 + 1 / 901.0)))
    assert cadence.interval_s() < 0.5 * calm_s
    hazard.write_text("")
    clock.sleep(1.0)
    cadence.is_due()
    assert cadence.interval_s() == pytest.approx(calm_s, rel=0.01)


def test_no_more_than_a_minute_is_ever_at_stake():
    clock = ManualClock(0.0)
    cadence = Cadence(clock, failures=0)
    cadence.saved(500.0)
    assert cadence.interval_s() == LONGEST_S
