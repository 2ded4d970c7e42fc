"""Node health under the real controller, a fake fleet and a clock that jumps: what acts, what never does, and kills."""

import random
from dataclasses import replace

import pytest

from platformops.delivery.decisions import explain
from platformops.errors import LeaseLost
from platformops.fleet import FleetController
from platformops.health.calibration import Record
from platformops.health.decide import QUIET_ROUNDS, decide
from platformops.health.guard import Guard
from platformops.health.nodes import LEARNT, POLICIES, Gang, Learnt, Member, Policy, Step, Wish, policy_json
from platformops.health.remedy import Remedy
from platformops.health.sight import Seen
from platformops.health.vitals import (
    CPU_BUSY,
    CPU_GRANTED,
    CPU_STALL,
    CPU_STEAL,
    CPU_THROTTLED,
    DISK_FREE,
    MEMORY_AVAILABLE,
    MEMORY_STALL,
    RAYLET_ANSWER,
)
from platformops.health.wire import RayletState
from tests.simulation.fleet_world import FleetWorld, Machine

ACTS = ("retire", "drain", "kill", "avoid")


def acts(world):
    """What was done to nodes; the first word on whom to avoid, nobody, is none."""
    return [e for e in world.fleet.effects if e[0] in ACTS and e != ("avoid", ())]


def test_every_node_gets_a_probe_and_a_new_one_too():
    world = FleetWorld(4)
    assert [e[1] for e in world.fleet.done("probe")] == ["n0", "n1", "n2", "n3"]
    world.fleet.machines["n9"] = Machine(Member("n9", "10.0.0.9", True, cpus=4.0, free_cpus=4.0))
    world.until(lambda: world.fleet["n9"].incarnation == 1)
    assert acts(world) == []


def test_a_killed_server_is_told_by_its_own_kernel_and_retired_within_two_seconds():
    world = FleetWorld(5)
    world.fleet["n2"].raylet = RayletState.GONE
    assert world.until(lambda: world.fleet.done("retire")) < 2.0
    assert world.state("n2") == "dead"
    assert world.told("n2")[0] == "healthy -> dead"
    assert acts(world) == [("retire", "n2")]


def test_a_machine_that_vanishes_with_its_probe_is_found_by_its_silence():
    world = FleetWorld(5)
    world.fleet["n2"].raylet, world.fleet["n2"].incarnation = RayletState.GONE, 0
    assert world.until(lambda: world.fleet.done("retire")) < 4.5


def test_a_frozen_server_is_retired_within_eight_seconds_and_a_short_stop_is_not():
    world = FleetWorld(5)
    world.fleet["n2"].raylet = RayletState.STOPPED
    world.run(1.0)
    world.fleet["n2"].raylet = RayletState.ANSWERS
    world.run(30)
    assert acts(world) == []
    world.fleet["n2"].raylet = RayletState.STOPPED
    assert world.until(lambda: world.fleet.done("retire")) < 8.0


@pytest.mark.parametrize("num_nodes", [1, 5])
def test_the_head_is_never_retired_nor_its_server_ended_from_here(num_nodes):
    world = FleetWorld(num_nodes)
    world.fleet["n0"].raylet = RayletState.STOPPED
    world.run(30)
    assert acts(world) == []
    assert world.fleet.ended_servers == []
    world.fleet["n0"].raylet = RayletState.ANSWERS
    world.until(lambda: not world.record("n0").is_dead)


def test_of_two_nodes_the_one_that_dies_is_retired():
    world = FleetWorld(2)
    world.fleet["n1"].raylet = RayletState.GONE
    assert world.until(lambda: world.fleet.done("retire")) < 4.0


def test_a_single_missed_beat_and_a_busy_processor_change_nothing():
    world = FleetWorld(5)
    for machine in world.fleet.machines.values():
        machine.readings[CPU_BUSY] = 1.0
    for node in ("n1", "n3"):
        world.fleet[node].due_s += 1.0
        world.run(10)
    world.run(120)
    assert acts(world) == []
    assert {world.state(f"n{i}") for i in range(5)} == {"healthy"}


def test_a_controller_that_was_paused_condemns_nobody():
    world = FleetWorld(5)
    for pause_s in (3.0, 20.0, 300.0):
        world.clock.sleep(pause_s)
        world.run(20)
    assert acts(world) == []


def test_a_partition_of_a_third_of_the_fleet_condemns_nobody():
    world = FleetWorld(9)
    for node in ("n1", "n4", "n7"):
        world.fleet[node].is_cut_off = True
    world.run(12)
    for node in ("n1", "n4", "n7"):
        world.fleet[node].is_cut_off = False
    world.run(30)
    assert acts(world) == []


def test_a_dead_probe_is_replaced_and_its_node_left_alone():
    world = FleetWorld(5)
    world.fleet["n3"].incarnation = 0
    assert world.until(lambda: world.fleet["n3"].incarnation == 2) < 8.0
    assert world.told("n3") == ["restart its probe"]
    world.run(60)
    assert acts(world) == []


def test_a_frozen_worker_is_ended_once_and_named():
    world = FleetWorld(3)
    world.fleet["n1"].stopped[4711, 99] = world.clock.now()
    assert world.until(lambda: world.fleet["n1"].ended) < 5.0
    world.run(10)
    assert acts(world) == [("kill", "n1", (4711, 99))]
    assert world.told("n1") == ["restart worker"]


def test_a_controller_that_stood_still_itself_does_not_end_itself_for_it():
    world = FleetWorld(3)
    world.fleet["n0"].stopped[1, 1] = world.clock.now()
    world.clock.sleep(6.0)
    world.fleet.backlog()
    del world.fleet["n0"].stopped[1, 1]
    world.run(10)
    assert acts(world) == []
    assert world.told("n0") == []


def leak(world, node):
    world.fleet[node].readings |= {MEMORY_AVAILABLE: 0.005, MEMORY_STALL: 0.6}


def test_a_leaking_node_is_avoided_then_serves_probation_when_it_is_well_again():
    world = FleetWorld(12)
    leak(world, "n5")
    world.until(lambda: world.state("n5") == "unhealthy")
    world.run(2)
    assert world.record("n5").remedy.value != "wait"
    row = next(r for r in world.status()["nodes"] if r["id"] == "n5")
    assert "share of memory left 0.005" in row["reasons"][0]
    assert row["probability"] > 0.1
    assert any("slot-seconds" in d.reason for d in explain(world.store, "n5"))


SLOW = {CPU_THROTTLED: 1.0, CPU_GRANTED: 0.2}
FAST = {CPU_THROTTLED: 0.0, CPU_GRANTED: None}


@pytest.mark.parametrize("num_nodes", [2, 12])
def test_a_slow_node_is_weighed_down_within_half_a_minute_and_takes_work_again_when_it_is_fast(num_nodes):
    world = FleetWorld(num_nodes)
    world.fleet["n1"].readings |= SLOW
    assert world.until(lambda: world.fleet.suspects == ("n1",)) < 30.0
    world.until(lambda: world.record("n1").remedy is Remedy.WEIGH_DOWN, limit_s=5.0)
    assert world.state("n1") == "suspect"
    assert world.told("n1") == ["weigh down", "healthy -> suspect"]
    assert "5% of its processors" in explain(world.store, "n1")[1].reason
    world.run(60)
    world.fleet["n1"].readings |= FAST
    world.until(lambda: world.state("n1") == "healthy", limit_s=120.0)
    assert world.fleet.suspects == ()
    assert world.record("n1").remedy is Remedy.WAIT
    assert acts(world) == []


def test_a_node_whose_replicas_answer_far_later_than_their_peers_is_weighed_down_and_says_so():
    world = FleetWorld(4)
    world.fleet.serves_s = {"digits-r3": {"n1": 0.4, "n2": 0.01, "n3": 0.012}}
    assert world.until(lambda: world.fleet.suspects == ("n1",)) < 40.0
    assert "calls of digits-r3 take 0.4 s, on its peers" in explain(world.store, "n1")[-1].reason
    world.fleet.serves_s = {"digits-r3": {"n1": 0.01, "n2": 0.01, "n3": 0.012}}
    world.until(lambda: world.state("n1") == "healthy", limit_s=120.0)
    assert acts(world) == []


@pytest.mark.parametrize(
    ("serves_s", "stall"),
    [
        ({"digits-r3": {"n1": 0.4, "n2": 0.01, "n3": 0.012}}, 0.95),
        ({"digits-r4": dict.fromkeys(("n1", "n2", "n3"), 0.4), "digits-r3": {"n1": 0.01, "n2": 0.01}}, 0.0),
        ({"digits-r3": {"n1": 0.4}}, 0.0),
    ],
    ids=["a hog wants its processors", "a revision that is late everywhere", "no peers"],
)
def test_late_replicas_are_no_sign_against_a_node_where_something_else_explains_them(serves_s, stall):
    world = FleetWorld(4)
    world.fleet["n1"].readings |= {CPU_STALL: stall}
    world.fleet.serves_s = serves_s
    world.run(120)
    assert world.told("n1") == []
    assert world.fleet.suspects == ()


def test_a_training_is_moved_off_a_node_that_stays_slow_for_minutes():
    world = FleetWorld(3)
    train_on(world, "n2", slots=4)
    world.fleet["n2"].readings |= SLOW
    world.run(60)
    assert acts(world) == []
    assert world.until(lambda: world.fleet.done("drain"), limit_s=900.0) > 60.0
    assert any("slow for longer than a move of its work costs" in d.reason for d in explain(world.store, "n2"))


ALONE = {CPU_STALL: 0.05, CPU_BUSY: 0.9}
"""A node whose processors its own rank keeps busy."""


class Ranks:
    """A training with a rank on each of these nodes, by what its own part of a step takes there."""

    def __init__(self, world, *nodes, **readings):
        self.world, self.number = world, 0
        for node in nodes:
            machine = world.fleet[node]
            machine.member = replace(machine.member, free_cpus=0.0)
            machine.readings |= ALONE
        for node, changed in readings.items():
            world.fleet[node].readings |= changed

    def step(self, *, seconds, is_new=True, **steps_s):
        """For so long, with a new measurement every two seconds."""
        for _ in range(0, seconds, 2):
            self.number += is_new
            for node, step_s in steps_s.items():
                step = Step(self.number, step_s)
                train_on(self.world, node, slots=len(steps_s), name="digits", ranks=1, step=step)
            self.world.run(2)


def test_a_node_whose_rank_holds_up_the_others_is_weighed_down_and_then_left_by_its_training():
    world = FleetWorld(4)
    ranks = Ranks(world, "n1", "n2", "n3")
    ranks.step(seconds=40, n1=0.2, n2=0.7, n3=0.21)
    assert world.fleet.suspects == ("n2",)
    said = explain(world.store, "n2")[-1].reason
    assert "its part of a step of digits (1 rank on 4 CPUs) takes 0.7 s, elsewhere 0.21 s" in said
    world.fleet["n0"].member = replace(world.fleet["n0"].member, free_cpus=4.0)
    ranks.step(seconds=600, n1=0.2, n2=0.7, n3=0.21)
    assert world.fleet.done("drain")
    assert world.told("n1") == world.told("n3") == []


@pytest.mark.parametrize(
    "readings",
    [{CPU_STALL: 0.95}, {CPU_STALL: 0.4}, {CPU_STALL: None}],
    ids=["a hog wants its processors", "a program takes two fifths of them", "the kernel does not say who waits"],
)
def test_a_rank_that_others_keep_from_the_processors_is_no_sign_against_its_node(readings):
    world = FleetWorld(4)
    Ranks(world, "n1", "n2", "n3", n2=readings).step(seconds=120, n1=0.2, n2=0.7, n3=0.21)
    assert world.told("n2") == []


def test_a_program_on_the_other_threads_of_the_same_cores_is_no_sign_against_a_node():
    world = FleetWorld(4)
    ranks = Ranks(world, "n1", "n2", "n3", n2={CPU_BUSY: 1.0})
    world.fleet["n2"].member = replace(world.fleet["n2"].member, free_cpus=2.0)
    ranks.step(seconds=120, n1=0.2, n2=0.35, n3=0.21)
    assert world.told("n2") == []


def test_one_late_measurement_counts_once_however_long_it_is_the_newest():
    world = FleetWorld(4)
    ranks = Ranks(world, "n1", "n2", "n3")
    ranks.step(seconds=30, n1=0.2, n2=0.2, n3=0.21)
    ranks.step(seconds=2, n1=0.2, n2=0.9, n3=0.21)
    ranks.step(seconds=50, is_new=False, n1=0.2, n2=0.9, n3=0.21)
    ranks.step(seconds=30, n1=0.2, n2=0.2, n3=0.21)
    assert world.told("n2") == []


def test_a_node_that_carries_more_ranks_of_a_training_is_no_slower_machine_for_that():
    world = FleetWorld(3)
    Ranks(world, "n1", "n2")
    for number in range(60):
        train_on(world, "n1", name="digits", ranks=2, step=Step(number, 0.4))
        train_on(world, "n2", name="digits", ranks=1, step=Step(number, 0.2))
        world.run(2)
    assert world.told("n1") == []


def test_nodes_about_which_there_is_nothing_new_are_judged_in_turn_and_told_of_all_the_same():
    world = FleetWorld(12)
    views = {n: world.controller._watch.view(n, world.clock.now()) for n in world.fleet.machines}
    records = {n: world.record(n) for n in world.fleet.machines}
    members = {m.id: m for m in world.fleet.members()}
    seen = Seen(members, records, views, {}, (), Guard(1), Learnt(Record(0.0)), 1, Policy())
    judged = [set(decide(seen, 1_000.0 + second).risks) for second in range(QUIET_ROUNDS)]
    assert set().union(*judged) == set(members)
    assert sum(map(len, judged)) == len(members)
    assert all(row["probability"] is not None for row in world.status()["nodes"])


def test_what_a_spec_forbids_is_not_done_while_its_system_is_up():
    world = FleetWorld(3)
    world.store.put(POLICIES + "digits", policy_json(Policy(may_drain=False)), expect=None)
    world.store.put("system/digits", {"name": "digits", "wanted": "up"}, expect=None)
    train_on(world, "n2", slots=4)
    world.fleet["n2"].readings |= SLOW
    world.run(600)
    assert world.record("n2").remedy is Remedy.WEIGH_DOWN
    row = next(r for r in world.status()["nodes"] if r["id"] == "n2")
    assert "drain: never" in row["excluded"]["drain"]
    world.store.put("system/digits", {"name": "digits", "wanted": "down"}, expect=None)
    world.until(lambda: world.fleet.done("drain"), limit_s=30.0)


def test_programs_that_take_every_processor_of_one_node_or_of_all_weigh_nothing_down():
    world = FleetWorld(5)
    world.fleet["n1"].readings |= {CPU_BUSY: 1.0, CPU_STEAL: 0.0, RAYLET_ANSWER: 0.03}
    world.run(60)
    for machine in world.fleet.machines.values():
        machine.readings |= {CPU_BUSY: 0.3, CPU_STEAL: 0.6, RAYLET_ANSWER: 0.4}
    world.run(120)
    assert world.fleet.suspects == ()
    assert {world.state(f"n{i}") for i in range(5)} == {"healthy"}


def train_on(world, node, **gang):
    machine = world.fleet[node]
    machine.member = replace(machine.member, gang=Gang(**{"slots": 2, "unsaved_s": 40.0, "checkpoint_s": 0.1, **gang}))


def test_a_training_on_a_suspect_node_is_asked_for_a_checkpoint_before_the_node_loses_anything():
    world = FleetWorld(12)
    train_on(world, "n5")
    leak(world, "n5")
    world.until(lambda: world.fleet.done("checkpoint"))
    assert world.state("n5") == "suspect"
    assert acts(world) == []
    assert world.told("n5")[0] == "checkpoint now"
    train_on(world, "n5", unsaved_s=1.0)
    world.until(lambda: world.record("n5").remedy is not Remedy.WAIT)
    assert world.fleet.done("checkpoint") == [("checkpoint", "n5")]


def test_a_checkpoint_that_is_never_written_keeps_no_other_remedy_back():
    world = FleetWorld(12)
    train_on(world, "n5")
    leak(world, "n5")
    assert world.until(lambda: world.record("n5").remedy is not Remedy.WAIT) < 40.0
    assert len(world.fleet.done("checkpoint")) == 1


def test_a_training_on_a_sound_node_is_left_alone():
    world = FleetWorld(5)
    train_on(world, "n2")
    world.run(120)
    assert world.fleet.done("checkpoint") == []
    assert world.told("n2") == []


def test_how_often_each_node_fails_is_told_to_all_and_moves_with_what_is_seen():
    world = FleetWorld(5)
    usual = world.fleet.rates_per_s
    assert list(usual) == [""]
    assert usual[""] > 0.0
    leak(world, "n3")
    world.until(lambda: "n3" in world.fleet.rates_per_s)
    assert world.fleet.rates_per_s["n3"] > 10 * usual[""]
    assert world.fleet.rates_per_s[""] == usual[""]


def drill_node(world, node, address="10.0.0.99"):
    member = Member(node, address, True, cpus=4.0, free_cpus=4.0, drill="d1")
    world.fleet.machines[node] = Machine(member)
    world.run(20)


def test_a_drills_node_takes_no_work_no_budget_and_teaches_nothing():
    world = FleetWorld(3)
    drill_node(world, "d")
    assert world.fleet.avoided == ("d",)
    leak(world, "d")
    world.until(lambda: world.record("d").remedy is Remedy.CORDON)
    world.fleet["d"].raylet = RayletState.GONE
    world.until(lambda: world.record("d").is_dead)
    world.run(5)
    leak(world, "n1")
    world.until(lambda: world.record("n1").remedy is not Remedy.WAIT)
    assert not world.status()["breaker"]
    learnt = world.store.get(LEARNT)
    assert learnt is None or learnt.value["deaths"] == 0


def test_a_real_node_does_not_inherit_the_past_of_a_drill_at_its_address():
    world = FleetWorld(3)
    drill_node(world, "d", address="10.0.0.7")
    world.fleet["d"].raylet = RayletState.GONE
    world.until(lambda: world.record("d").is_dead)
    world.fleet.machines["n7"] = Machine(Member("n7", "10.0.0.7", True, cpus=4.0, free_cpus=4.0))
    world.run(5)
    assert world.state("n7") == "healthy"


def test_one_odd_sample_moves_nothing():
    world = FleetWorld(12)
    leak(world, "n5")
    world.run(6)
    world.fleet["n5"].readings |= {MEMORY_AVAILABLE: 0.7, MEMORY_STALL: 0.0}
    world.run(60)
    assert world.state("n5") == "healthy"


def test_many_that_turn_ill_together_are_a_common_cause_first_and_the_budget_bounds_what_follows():
    world = FleetWorld(12)
    for node in range(12):
        world.fleet[f"n{node}"].readings |= {DISK_FREE: 0.0005}
    world.run(25)
    assert acts(world) == []
    assert "common cause" in world.record("n3").reason
    world.run(120)
    assert len({e[1] for e in acts(world) if e[0] == "drain"} | set(world.fleet.avoided)) <= 2
    assert world.status()["breaker"]


def test_a_person_cordons_and_uncordons_and_drains():
    world = FleetWorld(3)
    world.wish("n2", Wish.CORDONED)
    world.until(lambda: world.fleet.avoided == ("n2",), limit_s=3.0)
    world.wish("n2", Wish.NONE)
    world.until(lambda: world.fleet.avoided == (), limit_s=3.0)
    world.wish("n1", Wish.DRAINED)
    world.until(lambda: world.fleet.done("drain"), limit_s=3.0)
    world.run(20)
    assert world.fleet.done("drain") == [("drain", "n1")]


def test_a_draining_node_says_what_it_waits_for():
    world = FleetWorld(3)
    world.wish("n1", Wish.DRAINED)
    world.until(lambda: world.fleet.done("drain"), limit_s=3.0)
    machine = world.fleet["n1"]
    machine.member = replace(machine.member, free_cpus=1.5, held_by=("Replica", "Trainer", "Replica"))
    world.run(5)
    row = next(r for r in world.status()["nodes"] if r["id"] == "n1")
    assert row["waits_for"] == "waits for what runs there: 2.5 of its CPUs are in use; Replica (2), Trainer"
    machine.member = replace(machine.member, free_cpus=4.0, held_by=())
    world.run(5)
    row, other = (next(r for r in world.status()["nodes"] if r["id"] == n) for n in ("n1", "n2"))
    assert "about to end" in row["waits_for"]
    assert other["waits_for"] == ""


def test_the_only_node_is_never_avoided():
    world = FleetWorld(1)
    world.wish("n0", Wish.CORDONED)
    world.run(10)
    assert world.fleet.avoided == ()


def test_the_past_of_a_machine_follows_it_and_a_crash_loop_is_barred():
    world = FleetWorld(3)
    for life in range(3):
        node = "n1" if life == 0 else f"n1-{life}"
        world.fleet[node].raylet = RayletState.GONE
        world.until(lambda node=node: not world.fleet[node].member.is_alive)
        world.fleet.replace(node, f"n1-{life + 1}")
        world.run(20)
    assert world.state("n1-3") == "barred"
    assert world.told("n1-3")[0] == "dead -> barred"
    assert "n1-3" in world.fleet.avoided
    world.wish("n1-3", Wish.PARDONED)
    world.until(lambda: world.state("n1-3") == "probation")


def test_of_two_controllers_the_older_can_neither_commit_nor_act():
    world = FleetWorld(3)
    old = world.controller
    FleetController(world.store, world.fleet, world.clock, "new")
    world.fleet["n1"].raylet = RayletState.GONE

    def turned():
        for _ in range(40):
            world.clock.sleep(0.25)
            old.turn()

    with pytest.raises(LeaseLost):
        turned()
    assert acts(world) == []


def story(world):
    """A leak, a death, a frozen server, a frozen worker and a sick probe, within half a minute."""
    leak(world, "n5")
    world.run(14)
    world.fleet["n2"].raylet = RayletState.GONE
    world.run(3)
    world.fleet["n3"].raylet = RayletState.STOPPED
    world.fleet["n4"].stopped[7, 7] = world.clock.now()
    world.run(5)
    world.fleet["n1"].incarnation = 0
    world.run(14)
    return world


NUM_KILLS = 100
"""Of the 250 points or so; all of them were tried."""


def test_a_controller_killed_at_random_points_loses_no_verdict_and_does_nothing_twice():
    undisturbed, offset = FleetWorld(6), 0
    offset = undisturbed.touches
    wanted = sorted(set(acts(story(undisturbed))))
    assert [what for what, *_ in wanted] == ["avoid", "kill", "retire", "retire"]
    for point in random.Random(5).sample(range(offset + 1, undisturbed.touches), NUM_KILLS):
        world = FleetWorld(6)
        world.kill_at = {point}
        story(world)
        assert world.kills == 1
        assert sorted(acts(world)) == wanted, point
        for node in ("n1", "n2", "n3", "n4", "n5"):
            assert world.state(node) == undisturbed.state(node), point
            assert sorted(world.told(node)) == sorted(undisturbed.told(node)), point
