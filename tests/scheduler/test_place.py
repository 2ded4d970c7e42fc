"""Placing gangs: all or nothing, away from sick nodes, in a just order, and every wait with its reason."""

import random

import pytest

from platformops.scheduler.place import BACKFILL_S, place
from platformops.scheduler.records import Job, NodeView, Priority, Running, Team

NOW = 10_000.0


def job(name, num_tasks=1, cpus=1.0, **more):
    given = {"team": "a", "submitted_at": NOW, "needs": {"CPU": cpus}, **more}
    return Job(name, num_tasks=num_tasks, **given)


def node(name, cpus=4.0, **more):
    return NodeView(name, {"CPU": cpus}, **more)


def placed(plan):
    return {p.job: p.nodes for p in plan.placements}


def test_a_gang_is_placed_whole_or_not_at_all():
    nodes = [node("n1"), node("n2")]
    plan = place([job("big", 9), job("fits", 8)], nodes, now=NOW)
    assert list(placed(plan)) == ["fits"]
    assert plan.held[0].job == "big"
    assert "room for 8 of 9" in plan.held[0].reason


def test_a_node_that_takes_no_work_is_left_out_and_named_in_the_reason():
    plan = place([job("j", 5)], [node("n1"), node("n2", takes_work=False, why_not="cordoned")], now=NOW)
    assert not plan.placements
    assert "1 of 2 nodes take no work (cordoned)" in plan.held[0].reason


def test_a_suspect_node_is_used_only_when_nothing_better_has_room():
    nodes = [node("n1", is_suspect=True), node("n2", hazard_per_s=1e-6)]
    assert placed(place([job("j", 4)], nodes, now=NOW)) == {"j": ("n2",) * 4}
    plan = place([job("j", 6)], nodes, now=NOW)
    assert placed(plan)["j"].count("n1") == 2
    assert "suspect for want of better" in plan.placements[0].reason


def test_the_node_that_fails_least_is_preferred_and_small_differences_are_not():
    lemon, sound = node("n1", hazard_per_s=1e-6), node("n2", hazard_per_s=1e-8)
    assert placed(place([job("j")], [lemon, sound], now=NOW))["j"] == ("n2",)
    almost = [node("n1", cpus=8.0, hazard_per_s=1.0e-8), node("n2", cpus=2.0, hazard_per_s=0.9e-8)]
    assert placed(place([job("j")], almost, now=NOW))["j"] == ("n2",)


def test_a_job_is_not_put_back_where_it_failed():
    plan = place([job("j", 4, avoid=frozenset({"n1"}))], [node("n1")], now=NOW)
    assert "it failed before on n1" in plan.held[0].reason


def test_replicas_that_spread_do_not_share_a_node():
    nodes = [node("n1"), node("n2")]
    assert sorted(placed(place([job("r", 2, spread=True)], nodes, now=NOW))["r"]) == ["n1", "n2"]
    assert not place([job("r", 3, spread=True)], nodes, now=NOW).placements


def test_higher_priority_goes_first_whatever_the_order_of_the_input():
    jobs = [job("low", 4), job("high", 4, priority=Priority.SERVING)]
    for given in (jobs, jobs[::-1]):
        assert list(placed(place(given, [node("n1")], now=NOW))) == ["high"]


def test_a_job_that_waited_long_enough_overtakes_a_higher_priority():
    old = job("old", 4, submitted_at=NOW - 2 * 1800.0)
    new = job("new", 4, priority=Priority.TRAINING)
    assert list(placed(place([new, old], [node("n1")], now=NOW))) == ["old"]


def test_waiting_never_lifts_a_job_over_repair():
    ancient = job("ancient", 4, submitted_at=0.0)
    repair = job("repair", 4, priority=Priority.REPAIR)
    assert list(placed(place([ancient, repair], [node("n1")], now=NOW))) == ["repair"]


def test_the_team_that_uses_least_for_its_share_is_served_next():
    running = [Running("a", {"CPU": 4.0}), Running("b", {"CPU": 6.0})]
    jobs = [job("of-a", 4, team="a"), job("of-b", 4, team="b")]
    assert list(placed(place(jobs, [node("n1")], running=running, now=NOW))) == ["of-a"]
    double = {"b": Team("b", share=2.0)}
    assert list(placed(place(jobs, [node("n1")], running=running, teams=double, now=NOW))) == ["of-b"]


def test_what_this_plan_places_counts_for_shares_and_quota():
    jobs = [job("a1", 2, submitted_at=1.0), job("a2", 2, submitted_at=2.0), job("b1", 2, team="b", submitted_at=3.0)]
    jobs = [Job(j.name, j.team, NOW, j.num_tasks, j.needs) for j in jobs]
    assert list(placed(place(jobs, [node("n1")], now=NOW))) == ["a1", "b1"]
    plan = place(jobs, [node("n1", 8.0)], teams={"a": Team("a", quota={"CPU": 3.0})}, now=NOW)
    assert "quota of a: 4 CPU of 3" in plan.held[0].reason


def test_small_jobs_slip_in_at_first_and_a_gang_that_waited_long_gets_its_turn():
    nodes = [node("n1")]
    small = job("small", 1)
    fresh = job("gang", 5, priority=Priority.TRAINING)
    assert list(placed(place([fresh, small], nodes, now=NOW))) == ["small"]
    starved = job("gang", 5, priority=Priority.TRAINING, submitted_at=NOW - BACKFILL_S)
    plan = place([starved, small], nodes, now=NOW)
    assert not plan.placements
    assert [h.job for h in plan.held] == ["gang", "small"]


@pytest.mark.parametrize("seed", range(20))
def test_no_plan_ever_uses_more_than_there_is_and_every_job_is_answered_once(seed):
    rng = random.Random(seed)
    nodes = [
        node(f"n{i}", rng.choice([1.0, 2.0, 4.0]), takes_work=rng.random() > 0.2, hazard_per_s=rng.random() * 1e-6)
        for i in range(12)
    ]
    jobs = [
        job(
            f"j{i}",
            rng.randint(1, 9),
            rng.choice([0.5, 1.0]),
            team=rng.choice("ab"),
            priority=rng.choice(list(Priority)),
        )
        for i in range(25)
    ]
    plan = place(jobs, nodes, now=NOW)
    assert sorted([p.job for p in plan.placements] + [h.job for h in plan.held]) == sorted(j.name for j in jobs)
    by_name = {j.name: j for j in jobs}
    used = dict.fromkeys((n.id for n in nodes), 0.0)
    for placement in plan.placements:
        assert len(placement.nodes) == by_name[placement.job].num_tasks
        for name in placement.nodes:
            used[name] += by_name[placement.job].needs["CPU"]
    for view in nodes:
        assert used[view.id] <= (view.free["CPU"] if view.takes_work else 0.0) + 1e-9
    assert all(h.reason for h in plan.held)
    rng.shuffle(jobs)
    rng.shuffle(nodes)
    assert place(jobs, nodes, now=NOW) == plan
