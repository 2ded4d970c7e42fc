"""The guard: one epoch, a budget of capacity, a breaker that a person resets, and no action in the dark."""

import pytest

from platformops.health.guard import BUDGET_WINDOW_S, Fleet, Guard, Order, budget, reset, rule
from platformops.health.nodes import Policy, policy_from, policy_json, strictest
from platformops.health.remedy import Remedy

FLEET = Fleet(num_nodes=50, num_usable=50, num_needed=30, num_heard=50)


def drain(node, *, epoch=1, at=0.0):
    return Order(node, Remedy.DRAIN, epoch, at)


def spent(fleet=FLEET, now=0.0):
    guard = Guard()
    for i in range(budget(fleet)):
        ruling = rule(guard, drain(f"n{i}", at=now), fleet, now)
        assert ruling.is_allowed, ruling.reason
        guard = ruling.guard
    return guard


@pytest.mark.parametrize(("num_nodes", "expected"), [(1, 1), (3, 1), (19, 1), (20, 2), (10_000, 1000)])
def test_the_budget_is_a_tenth_but_always_one(num_nodes, expected):
    assert budget(Fleet(num_nodes, num_nodes, 0, num_nodes)) == expected


def test_one_more_than_the_budget_opens_the_breaker_and_it_stays_open():
    ruling = rule(spent(), drain("late"), FLEET, 10.0)
    assert not ruling.is_allowed
    assert "the breaker opens: 5 nodes in 30 min" in ruling.reason
    later = rule(ruling.guard, drain("later"), FLEET, 10 * BUDGET_WINDOW_S)
    assert not later.is_allowed
    assert "reset it by hand" in later.reason
    assert rule(reset(ruling.guard), drain("after"), FLEET, 20.0).is_allowed


def test_the_budget_returns_as_the_window_passes():
    assert rule(spent(), drain("late"), FLEET, BUDGET_WINDOW_S + 1).is_allowed


def test_the_same_node_twice_costs_the_budget_once():
    guard = spent()
    ruling = rule(guard, drain("n0"), FLEET, 5.0)
    assert ruling.is_allowed
    assert len(ruling.guard.taken) == budget(FLEET)


def test_what_runs_keeps_the_nodes_that_it_needs():
    tight = Fleet(num_nodes=50, num_usable=30, num_needed=30, num_heard=50)
    ruling = rule(Guard(), drain("n1"), tight, 0.0)
    assert not ruling.is_allowed
    assert "needs 30" in ruling.reason


def test_remedies_that_take_no_capacity_are_free_of_the_budget():
    assert rule(spent(), Order("x", Remedy.CHECKPOINT, 1, 0.0), FLEET, 0.0).is_allowed


def test_a_controller_of_an_older_epoch_is_refused():
    guard = rule(Guard(), drain("n1", epoch=7), FLEET, 0.0).guard
    ruling = rule(guard, drain("n2", epoch=6), FLEET, 1.0)
    assert not ruling.is_allowed
    assert "epoch 6 is over" in ruling.reason
    assert ruling.guard == guard


@pytest.mark.parametrize(
    ("fleet", "said"),
    [
        (Fleet(50, 50, 30, 25), "only 25 of 50 probes"),
        (Fleet(50, 50, 30, 50, sees_store=False), "store is out of reach"),
    ],
)
def test_a_controller_that_sees_too_little_only_observes(fleet, said):
    ruling = rule(Guard(), drain("n1"), fleet, 0.0)
    assert not ruling.is_allowed
    assert said in ruling.reason


def test_waiting_is_always_allowed():
    assert rule(Guard(epoch=9), Order("n", Remedy.WAIT, 1, 0.0), FLEET, 0.0).is_allowed


def test_the_same_decision_has_the_same_key():
    assert drain("n1").key == drain("n1").key != drain("n1", epoch=2).key


def test_of_several_systems_the_strictest_counts_and_a_policy_is_read_as_it_was_written():
    lenient, strict = Policy(budget_ratio=0.3), Policy(may_drain=False, budget_ratio=0.2)
    assert strictest([lenient, strict]) == Policy(may_drain=False, budget_ratio=0.2)
    assert strictest([]) == Policy()
    assert policy_from(policy_json(strict)) == strict
