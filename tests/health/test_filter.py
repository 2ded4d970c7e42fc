"""The two-state filter: evidence adds up, fades, and is not counted again because it is sampled often."""

import pytest

from platformops.health.filter import RECOVERY_S, Belief, at_rest, predict, update, within_horizon
from platformops.health.hazard import PUBLISHED_PER_S

RATE = PUBLISHED_PER_S


def test_without_evidence_the_belief_stays_near_the_hazard():
    belief = at_rest(RATE, 0.0)
    for minute in range(1, 600):
        belief = predict(belief, RATE, minute * 60.0)
    assert belief.failing == pytest.approx(RATE * RECOVERY_S, rel=0.1)


def test_a_signal_sampled_each_second_is_one_piece_of_evidence():
    once = update(predict(Belief(0.0), RATE, 600.0), {"errors": 3.0})
    often = predict(Belief(0.0), RATE, 540.0)
    for second in range(541, 601):
        often = update(predict(often, RATE, float(second)), {"errors": 3.0})
    assert often.log_odds == pytest.approx(once.log_odds, abs=0.2)


def test_independent_signals_add_up():
    belief = predict(Belief(0.0), RATE, 600.0)
    both = update(belief, {"errors": 3.0, "heat": 2.0})
    assert both.log_odds == pytest.approx(belief.log_odds + 5.0)


def test_evidence_that_is_withdrawn_takes_its_weight_with_it():
    belief = predict(Belief(0.0), RATE, 600.0)
    assert update(update(belief, {"errors": 3.0}), {"errors": 0.0}).log_odds == pytest.approx(belief.log_odds)


def test_evidence_that_nobody_repeats_fades():
    belief = update(predict(Belief(0.0), RATE, 600.0), {"errors": 9.0})
    later = predict(belief, RATE, 600.0 + 6 * RECOVERY_S)
    assert later.failing < 0.01 * belief.failing + 10 * RATE * RECOVERY_S


def test_time_that_stands_still_or_runs_back_changes_nothing():
    belief = predict(Belief(0.0), RATE, 600.0)
    assert predict(belief, RATE, 600.0) is belief
    assert predict(belief, RATE, 10.0) is belief


def test_the_horizon_adds_what_may_still_befall_a_healthy_node():
    belief = Belief(0.0)
    assert within_horizon(belief, RATE, 86_400.0) == pytest.approx(0.0065, rel=0.05)
    assert within_horizon(Belief(0.0, 0.0), RATE, 60.0) == pytest.approx(0.5, rel=0.01)
