"""Least expected cost: which remedy is chosen when, against what, and from which probability acting pays."""

import itertools

import pytest

from platformops.health.remedy import Prices, Remedy, Suspicion, Workload, acts_from, choose

GANG = Workload(
    slots=64, unsaved_s=1800.0, checkpoint_s=60.0, detection_s=60.0, restart_s=900.0, move_s=180.0, has_spare=True
)
REPLICA = Workload(slots=1, move_s=0.0, error_cost_slot_s=5_000.0, has_spare=True)
NODE = Prices(node_slots=8)


def remedy(p, work=GANG, prices=NODE, **more):
    return choose(Suspicion(p, **more), work, prices).remedy


def test_a_gang_waits_then_checkpoints_then_leaves_as_the_probability_rises():
    order = [remedy(p) for p in (0.0, 0.02, 0.05, 0.1, 0.5, 0.95)]
    assert order == [Remedy.WAIT, Remedy.WAIT, Remedy.CHECKPOINT, Remedy.CHECKPOINT, Remedy.DRAIN, Remedy.DRAIN]


def test_a_checkpoint_pays_from_its_cost_over_the_work_at_stake():
    assert acts_from(GANG, NODE) == pytest.approx(60.0 / 1800.0)


def test_waiting_is_chosen_below_the_threshold_and_something_else_above():
    for work, prices in itertools.product((GANG, REPLICA, Workload()), (NODE, Prices(node_slots=8, free_slots=8))):
        threshold = acts_from(work, prices)
        assert remedy(0.9 * threshold, work, prices) is Remedy.WAIT
        if threshold < 1.0:
            assert remedy(min(1.0, 1.1 * threshold), work, prices) is not Remedy.WAIT


def test_without_a_spare_only_a_checkpoint_is_left():
    crowded = Workload(slots=64, unsaved_s=1800.0, checkpoint_s=60.0, restart_s=900.0)
    choice = choose(Suspicion(0.9), crowded, NODE)
    assert choice.remedy is Remedy.CHECKPOINT
    assert "no healthy node has room" in choice.excluded[Remedy.MOVE]


def test_a_checkpoint_long_before_the_failure_saves_nothing_when_another_is_due():
    due = Workload(**{**{f: getattr(GANG, f) for f in GANG.__slots__}, "next_checkpoint_s": 60.0})
    assert choose(Suspicion(0.1), due, Prices(horizon_s=4 * 3600.0)).remedy is Remedy.WAIT


def test_a_replica_moves_where_a_gang_would_only_checkpoint():
    assert remedy(0.1, REPLICA) is Remedy.WAIT
    assert remedy(0.4, REPLICA) is Remedy.MOVE


def test_an_idle_node_is_cordoned_not_moved():
    choice = choose(Suspicion(0.3), Workload(), Prices(node_slots=4, free_slots=4))
    assert choice.remedy is Remedy.CORDON
    assert choice.excluded[Remedy.MOVE] == "nothing runs on it"


def test_a_hung_worker_is_restarted_and_its_node_left_alone():
    choice = choose(Suspicion(0.01, worker=0.9), GANG, NODE)
    assert choice.remedy is Remedy.RESTART_WORKER
    assert "points at a worker" in choice.excluded[Remedy.DRAIN]


@pytest.mark.parametrize(("num_nodes", "expected"), [(1, Remedy.WAIT), (2, Remedy.ROLL_BACK)])
def test_a_version_is_rolled_back_only_when_two_nodes_show_the_same(num_nodes, expected):
    suspicion = Suspicion(0.0, version=0.8, bad_nodes_of_version=num_nodes, version_cost_slot_s=1000.0)
    assert choose(suspicion, REPLICA, Prices()).remedy is expected


def test_the_reason_names_the_probability_the_stake_and_every_alternative_with_its_cost():
    choice = choose(Suspicion(0.2), GANG, NODE)
    for part in ("checkpoint now", "20.0%", "64 slots", "1800 s unsaved", "drain", "wait 35,328"):
        assert part in choice.reason


def test_the_choice_is_the_cheapest_of_its_own_list():
    for p in (0.0, 0.01, 0.03, 0.1, 0.3, 0.9):
        choice = choose(Suspicion(p), GANG, NODE)
        assert choice.cost_slot_s == min(choice.costs.values()) == choice.costs[choice.remedy]
        assert set(choice.costs) | set(choice.excluded) == set(Remedy)
