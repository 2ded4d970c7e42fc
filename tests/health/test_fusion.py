"""Learning and fusing evidence: what a model says, in numbers and in words, and what it must never do."""

import math

import numpy as np
import pytest

from platformops.health.fusion import FusedModel
from platformops.health.learning import Cases, LearningParams, learn
from platformops.health.ratios import LARGEST_LOG_RATIO, Curve, Table, choose_knots, places, ratio_step
from platformops.health.risk import Signal, logit, sigmoid

ERRORS = Signal("errors", "errors in an hour")
RACK = Signal("rack", "rack", is_category=True)
HEAT = Signal("heat", "degrees")


def world(rng, rows=40_000, *, copies=1):
    """Errors are common before failures; `copies` signals repeat them; heat says nothing."""
    failed = (rng.random(rows) < 0.02).astype(float)
    errors = rng.poisson(np.where(failed > 0, 6.0, 0.5)).astype(float)
    columns = {f"errors{i}" if i else "errors": errors + 0.0 for i in range(copies)}
    columns |= {"heat": rng.normal(50.0, 5.0, rows), "rack": rng.integers(0, 4, rows).astype(float)}
    return Cases(failed, np.full(rows, 0.02), columns)


def brier(p, failed):
    return float(((p - failed) ** 2).mean())


@pytest.fixture(scope="module")
def cases():
    return world(np.random.default_rng(1))


@pytest.fixture(scope="module")
def model(cases):
    return learn(cases, (ERRORS, HEAT, RACK), horizon_s=3600.0, params=LearningParams(num_pairs=1))


def test_a_learnt_model_beats_the_base_rate_on_other_cases(model):
    other = world(np.random.default_rng(2))
    p = model.probabilities(other.priors, other.columns)
    assert brier(p, other.failed) < 0.5 * brier(np.full(len(p), 0.02), other.failed)
    assert abs(p.mean() - other.failed.mean()) < 0.003


def test_one_node_and_a_column_of_nodes_get_the_same_probability(model, cases):
    rows = slice(0, 200)
    columns = {name: values[rows].copy() for name, values in cases.columns.items()}
    columns["errors"][:20] = np.nan
    columns["rack"][20:40] = 77.0
    together = model.probabilities(cases.priors[rows], columns)
    for i in range(200):
        readings = {name: float(values[i]) for name, values in columns.items()}
        assert model.judge(0.02, readings).probability == pytest.approx(together[i], rel=1e-9)
        assert sigmoid(model.log_odds(0.02, readings)) == pytest.approx(together[i], rel=1e-9)


def test_the_terms_add_up_to_the_log_odds_and_say_what_they_saw(model):
    risk = model.judge(0.02, {"errors": 9.0, "heat": 50.0, "rack": 1.0})
    total = model.bias + model.prior_weight * logit(0.02) + sum(t.log_odds for t in risk.terms)
    assert sigmoid(total) == pytest.approx(risk.probability)
    assert risk.terms[0].signals[0] == "errors"
    assert "errors in an hour 9: " in risk.terms[0].words
    assert "times the odds" in risk.terms[0].words


def test_a_signal_that_says_nothing_gets_a_ratio_near_one(model):
    heat = next(c for c in model.curves if c.signal.name == "heat")
    assert max(abs(v) for v in heat.log_ratios) < 0.5


def test_evidence_that_is_repeated_five_times_is_not_counted_five_times():
    rng = np.random.default_rng(4)
    many = world(rng, copies=5)
    signals = [ERRORS, *(Signal(f"errors{i}", "again") for i in range(1, 5))]
    fused = learn(many, signals, horizon_s=3600.0).probabilities(many.priors, many.columns)
    once = learn(many, [ERRORS], horizon_s=3600.0).probabilities(many.priors, many.columns)
    assert brier(fused, many.failed) < 1.03 * brier(once, many.failed)
    assert abs(fused.mean() - many.failed.mean()) < 0.001


def test_a_missing_reading_changes_nothing_unless_missing_itself_was_learnt(model):
    with_none = model.judge(0.02, {"errors": None, "heat": None, "rack": None})
    assert with_none.probability == pytest.approx(model.judge(0.02, {}).probability)
    assert "not known" in with_none.terms[-1].words


def test_a_reading_beyond_all_that_was_seen_is_held_at_the_outermost():
    curve = Curve(HEAT, (1.0, 2.0), (0.0, -1.0, 3.0, 0.0))
    assert curve.at(1e12) == 3.0
    assert curve.at(-1e12) == -1.0
    assert curve.at(float("nan")) == 0.0


def test_one_signal_cannot_convict_alone_however_clear_its_past():
    failed = np.r_[np.ones(5000), np.zeros(5000)]
    perfect = Cases(failed, np.full(10_000, 0.5), {"errors": failed * 100.0})
    model = learn(perfect, [ERRORS], horizon_s=60.0, params=LearningParams(num_rounds=200))
    assert max(abs(v) for c in model.curves for v in c.log_ratios) <= LARGEST_LOG_RATIO


def test_a_bin_with_few_failures_stays_near_one():
    step = ratio_step(np.asarray([1.0, 1000.0]), np.asarray([0.01, 10.0]), shrink=20.0)
    assert math.exp(step[0]) < 1.1
    assert math.exp(step[1]) > 30.0


def test_a_category_never_seen_says_nothing():
    at = places(RACK, (0.0, 1.0), np.asarray([0.0, 1.0, 5.0, np.nan]))
    assert at.low.tolist() == [1, 2, 3, 0]
    assert Curve(RACK, (0.0, 1.0), (0.5, 1.0, 2.0, 0.0)).at(5.0) == 0.0


def test_knots_lie_where_failures_are_even_when_these_are_rare():
    values = np.r_[np.zeros(10_000), np.linspace(10.0, 1000.0, 50)]
    failed = np.r_[np.zeros(10_000), np.ones(50)]
    assert sum(k > 2.0 for k in choose_knots(ERRORS, values, failed)) >= ERRORS.num_knots - 1


def test_a_table_reads_the_cell_of_both_readings():
    table = Table(HEAT, ERRORS, (1.0,), (1.0,), tuple(float(i) for i in range(9)))
    assert table.at(None, None) == 0.0
    assert table.at(0.5, 100.0) == 5.0
    assert table.at(100.0, None) == 6.0


def test_a_prior_of_zero_or_one_is_not_a_certainty():
    model = FusedModel(60.0, 0.0, 1.0, (), ())
    assert 0.0 < model.judge(0.0, {}).probability < 1e-6
    assert 1.0 > model.judge(1.0, {}).probability > 1.0 - 1e-6
