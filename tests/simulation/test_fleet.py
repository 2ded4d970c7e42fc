"""Simulated fleets under the product's own decisions: what must hold whatever befalls the nodes."""

import numpy as np
import pytest

from benchmarks.fleet import SIGNALS, Kind, Rates, World, learn_from_history
from benchmarks.gang import DEFAULTS, Gang, Policy
from platformops.health.guard import Fleet, budget
from platformops.health.hazard import DAY_S
from platformops.health.remedy import TAKES_CAPACITY

STRESS = Rates(per_1000_node_days=60.0)


@pytest.fixture(scope="module")
def model():
    return learn_from_history(STRESS, np.random.default_rng(1), num_cases=60_000)


def gang(size, policy, *, seed=0, rates=STRESS):
    return Gang(size, policy, np.random.default_rng([seed, size]), rates)


def check_invariants(run):
    """Of every finished run."""
    assert not run.members & run.spares
    keys = [order.key for _, order in run.tally.orders]
    assert len(keys) == len(set(keys)), "an order was carried out twice"
    assert [at for at, _ in run.tally.orders] == sorted(at for at, _ in run.tally.orders)
    num = len(run.members) + len(run.spares)
    assert run.tally.most_taken <= max(1, num // 10)
    taken = [at for at, order in run.tally.orders if order.remedy in TAKES_CAPACITY]
    for at in taken:
        assert sum(at - 1800.0 < other <= at for other in taken) <= max(1, num // 10 + 1)


@pytest.mark.parametrize(("size", "days"), [(10, 30.0), (128, 10.0), (1000, 2.0), (10_000, 0.2)])
def test_a_fleet_of_any_size_keeps_the_invariants(size, days, model):
    run = gang(size, Policy(model=model))
    ratio = run.ratio(days)
    assert 0.0 < ratio < 1.0
    assert len(run.members) == size
    check_invariants(run)


def test_the_same_seed_gives_the_same_run(model):
    first, second = (gang(64, Policy(model=model), seed=3) for _ in range(2))
    assert first.ratio(10.0) == second.ratio(10.0)
    assert first.tally == second.tally


def test_prediction_beats_none_and_none_beats_the_defaults(model):
    ratios = {
        name: np.mean([gang(128, policy, seed=seed).ratio(15.0) for seed in range(4)])
        for name, policy in {"defaults": DEFAULTS, "none": Policy(), "prediction": Policy(model=model)}.items()
    }
    assert ratios["defaults"] + 0.05 < ratios["none"] < ratios["prediction"]


def test_a_model_that_is_wrong_is_found_out_and_no_longer_moves_work(model):
    lying = type(model)(model.horizon_s, 5.0, model.prior_weight, model.curves, model.weights)
    run = gang(128, Policy(model=lying))
    run.run(6.0)
    last_two_days = [at for at, order in run.tally.orders if at > 4.0 * DAY_S and order.remedy in TAKES_CAPACITY]
    first_two_days = [at for at, order in run.tally.orders if at < 2.0 * DAY_S and order.remedy in TAKES_CAPACITY]
    assert len(last_two_days) < 0.5 * len(first_two_days) + 5


def test_a_fleet_without_failures_loses_only_its_checkpoints():
    calm = Rates(per_1000_node_days=1e-6, benign_per_1000_node_days=1e-6)
    run = gang(16, Policy(interval_s=3600.0), rates=calm)
    assert run.ratio(10.0) == pytest.approx(3600.0 / 3660.0, abs=0.001)
    assert not run.tally.failures


def test_the_fleet_has_the_rate_and_the_lemons_that_are_asked_for():
    world = World(20_000, Rates(), np.random.default_rng(5), 0.0)
    assert world.hazards.mean() * DAY_S * 1000.0 == pytest.approx(6.5, rel=0.05)
    assert np.quantile(world.hazards, 0.999) > 8.0 * world.hazards.mean()


def test_what_was_drawn_for_an_earlier_life_of_a_node_does_not_happen():
    world = World(4, STRESS, np.random.default_rng(6), 0.0)
    world.load(1, 0.0)
    world.unload(1)
    assert world.next().kind is Kind.HOUR


def test_the_model_has_learnt_that_signs_mean_more_than_a_benign_burst(model):
    world = World(2, STRESS, np.random.default_rng(7), 0.0)
    signs, benign = (
        np.median([model.judge(0.01, world.readings(kind)).probability for _ in range(100)])
        for kind in (Kind.SIGNS, Kind.BENIGN)
    )
    assert signs > 3.0 * benign
    assert {c.signal for c in model.curves} == set(SIGNALS)


def test_the_budget_bounds_a_fleet_of_ten_thousand():
    assert budget(Fleet(10_000, 10_000, 9_000, 10_000)) == 1_000
