"""Calibration: recalibration by outcomes, and refusing to act on what proved wrong."""

import numpy as np
import pytest

from platformops.health.calibration import (
    HALF_LIFE_S,
    LARGEST_ERROR,
    Decided,
    Record,
    calibration_error,
    correct,
    learn_outcomes,
    trust,
)
from platformops.health.risk import Risk


def outcomes(rng, probability, true, num, node_class="a"):
    return [Decided(node_class, probability, bool(rng.random() < true)) for _ in range(num)]


def test_without_outcomes_nothing_is_changed_and_nothing_is_claimed():
    assert correct(Record(0.0), "a", 0.3) == 0.3
    assert calibration_error(Record(0.0)) is None
    assert trust(Record(0.0), "a", Risk(0.3, 60.0, 0.1)).is_trusted


def test_probabilities_that_are_twice_too_high_are_corrected_for_their_class_alone():
    rng = np.random.default_rng(1)
    record = learn_outcomes(Record(0.0), outcomes(rng, 0.1, 0.05, 20_000), 0.0)
    assert correct(record, "a", 0.1) == pytest.approx(0.05, rel=0.1)
    assert correct(record, "b", 0.1) == 0.1


def test_a_few_outcomes_hardly_move_a_probability():
    record = learn_outcomes(Record(0.0), [Decided("a", 0.01, True)], 0.0)
    assert correct(record, "a", 0.01) < 0.0115


def test_wrong_predictions_are_not_acted_on_and_the_reason_says_why():
    rng = np.random.default_rng(2)
    record = learn_outcomes(Record(0.0), outcomes(rng, 0.6, 0.1, 500), 0.0)
    assert calibration_error(record) > LARGEST_ERROR
    risk = trust(record, "a", Risk(0.6, 60.0, 0.01))
    assert not risk.is_trusted
    assert risk.actionable == 0.01
    assert "allowed 0.05" in risk.reason


def test_trust_returns_once_corrected_predictions_are_right_again():
    rng = np.random.default_rng(3)
    record = learn_outcomes(Record(0.0), outcomes(rng, 0.6, 0.1, 500), 0.0)
    for month in range(1, 13):
        record = learn_outcomes(record, outcomes(rng, 0.6, 0.1, 500), month * HALF_LIFE_S / 2)
    assert calibration_error(record) <= LARGEST_ERROR
    assert trust(record, "a", Risk(0.6, 60.0, 0.01)).probability == pytest.approx(0.1, abs=0.03)


def test_old_outcomes_fade():
    rng = np.random.default_rng(4)
    record = learn_outcomes(Record(0.0), outcomes(rng, 0.1, 0.5, 1000), 0.0)
    later = learn_outcomes(record, [], 20 * HALF_LIFE_S)
    assert correct(later, "a", 0.1) == pytest.approx(0.1, rel=0.01)
