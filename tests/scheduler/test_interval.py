"""Checkpoint intervals: the optimum of the loss that they are derived from."""

import math

import numpy as np
import pytest

from platformops.scheduler.interval import (
    LEAST_S,
    MOST_S,
    checkpoint_interval_s,
    daly_s,
    is_worth_changing,
    mean_time_to_failure_s,
    young_s,
)


def loss(work_s, checkpoint_s, failure_s):
    """Daly's (2006, eq. 20) exact ratio of wall time to work, restart left out."""
    return failure_s / work_s * (math.exp((work_s + checkpoint_s) / failure_s) - 1.0)


@pytest.mark.parametrize("failure_s", [600.0, 3600.0, 86_400.0])
def test_dalys_interval_is_within_a_hundredth_of_the_least_loss(failure_s):
    best = min(loss(w, 60.0, failure_s) for w in np.geomspace(10.0, 1e5, 2000))
    assert loss(daly_s(60.0, failure_s), 60.0, failure_s) < 1.01 * best


def test_young_and_daly_agree_where_failures_are_rare():
    assert young_s(60.0, 1e7) == pytest.approx(daly_s(60.0, 1e7), rel=0.01)


def test_a_gang_fails_as_often_as_all_of_its_nodes_together():
    assert mean_time_to_failure_s([1e-6] * 1000) == pytest.approx(1000.0)
    assert mean_time_to_failure_s([]) == math.inf


def test_one_sick_node_shortens_the_interval_of_the_whole_gang():
    sound = [1e-7] * 8
    assert checkpoint_interval_s([*sound, 1e-4], checkpoint_s=60.0) < checkpoint_interval_s(sound, checkpoint_s=60.0)


def test_what_is_foreseen_lengthens_the_interval():
    hazards = [1e-6] * 100
    half = checkpoint_interval_s(hazards, checkpoint_s=10.0, foreseen_ratio=0.75)
    assert half == pytest.approx(2.0 * checkpoint_interval_s(hazards, checkpoint_s=10.0), rel=0.05)


def test_the_interval_is_kept_within_reason():
    assert checkpoint_interval_s([0.0], checkpoint_s=60.0) == MOST_S
    assert checkpoint_interval_s([1.0], checkpoint_s=0.001) == LEAST_S


def test_small_moves_of_the_hazards_do_not_disturb_the_gang():
    assert not is_worth_changing(1000.0, 1050.0)
    assert is_worth_changing(1000.0, 700.0)
