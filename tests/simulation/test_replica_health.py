"""A stable version whose replicas die of it is sent back by node health, under both real controllers."""

import numpy as np
import pytest

from benchmarks.release_traffic import Traffic
from platformops.delivery.decisions import explain
from platformops.delivery.records import RolloutKind, RolloutState
from platformops.delivery.systems import newest_rollout
from platformops.health.crashes import Life, blamed, remedy_for
from platformops.health.remedy import Remedy
from platformops.replica_health import ReplicaHealth
from tests.simulation.fleet_world import FleetWorld
from tests.simulation.world import World, check_settled

RELEASE = {"steps": ("10%", "100%"), "min_bake": "5s", "keep_warm": "2h", "watch": "1s"}
NODES = ("n0", "n1", "n2")


class Replicas:
    """What Ray would tell of the replicas of the stable version: one a node, which crash as often as they are made."""

    def __init__(self, clock):
        self.clock, self.began, self.ended = clock, {}, []

    def crash(self, revision, node):
        began = self.began.get((revision, node), self.clock.now() - 600.0)
        self.ended.append(Life(revision, node, began, self.clock.now(), has_crashed=True))
        self.began[revision, node] = self.clock.now()

    def lives(self, revision):
        now = [Life(revision, node, self.began.get((revision, node), self.clock.now() - 600.0)) for node in NODES]
        return [*self.ended, *now]


def promoted(*, versions=2, **release):
    world = World(traffic=Traffic(50.0, {}, np.random.default_rng(0)), release={**RELEASE, **release})
    for number in range(1, versions + 1):
        world.release(number)
        world.until_settled()
    return world, ReplicaHealth(world.store), Replicas(world.clock)


def crashing(world, health, replicas, nodes, *, times=8):
    """Each of these nodes loses its replica so often, a minute apart, or until it is sent back; what health could not
    do."""
    problems, stable = [], world.system.stable.name
    for _ in range(times):
        world.run(60)
        if world.system.stable.name != stable:
            break
        for node in nodes:
            replicas.crash(world.system.stable.name, node)
        problems += health.look(replicas.lives(world.system.stable.name), NODES, world.clock.now())
    return problems


def rollout_of(world):
    return newest_rollout(world.store, "img")[0]


def test_a_version_that_dies_everywhere_is_sent_back_once_and_the_record_says_why():
    world, health, replicas = promoted()
    assert crashing(world, health, replicas, NODES) == []
    back = world.until_settled()
    assert (back.kind, back.state, back.number) == (RolloutKind.ROLLBACK, RolloutState.PROMOTED, 3)
    assert world.system.stable.name == "img-r1"
    told = next(d for d in explain(world.store, "img") if "crashed" in d.reason)
    assert "replicas of img:v2 (img-r2) crashed" in told.reason
    assert "of the version, and neither of a node nor by chance" in told.reason
    (found,) = told.evidence
    assert found["evidence"]["costs_slot_s"]["roll back model"] < found["evidence"]["costs_slot_s"]["wait"]
    check_settled(world)


def test_the_version_before_that_lives_is_left_alone_afterwards():
    world, health, replicas = promoted()
    crashing(world, health, replicas, NODES)
    world.until_settled()
    for _ in range(5):
        world.run(60)
        assert health.look(replicas.lives("img-r1"), NODES, world.clock.now()) == ()
    assert rollout_of(world).number == 3


def test_two_versions_that_suffer_from_one_cause_do_not_send_each_other_back():
    world, health, replicas = promoted()
    crashing(world, health, replicas, NODES)
    world.until_settled()
    crashing(world, health, replicas, NODES)
    assert (world.system.stable.name, rollout_of(world).number) == ("img-r1", 3)
    (alarm,) = [d for d in explain(world.store, "img") if d.decision == "raised an alarm"]
    assert "it was itself gone back to" in alarm.reason


def test_a_way_back_that_fails_is_not_tried_for_ever():
    world, health, replicas = promoted()
    world.cluster.script.broken["img-r1"] = "its disk is gone"
    crashing(world, health, replicas, NODES, times=20)
    world.until_settled()
    assert (world.system.stable.name, rollout_of(world).number) == ("img-r2", 3)
    (alarm,) = [d for d in explain(world.store, "img") if d.decision == "raised an alarm"]
    assert "going back was tried before" in alarm.reason


def test_one_bad_node_sends_no_version_back():
    world, health, replicas = promoted()
    crashing(world, health, replicas, ["n1"], times=20)
    assert rollout_of(world).number == 2
    assert not [d for d in explain(world.store, "img") if "crashed" in d.reason]


def test_replicas_that_die_with_their_nodes_send_no_version_back():
    world, health, replicas = promoted()
    for _ in range(8):
        world.run(60)
        for node in NODES:
            replicas.crash("img-r2", node)
        assert health.look(replicas.lives("img-r2"), (), world.clock.now()) == ()
    assert rollout_of(world).number == 2


@pytest.mark.parametrize(
    ("versions", "release", "why"),
    [(1, {}, "no earlier version"), (2, {"on_degrade": "alarm"}, "release.on_degrade is alarm")],
)
def test_where_nothing_can_be_done_people_are_told_once(versions, release, why):
    world, health, replicas = promoted(versions=versions, **release)
    assert crashing(world, health, replicas, NODES) == []
    (alarm,) = [d for d in explain(world.store, "img") if d.decision == "raised an alarm"]
    assert why in alarm.reason
    assert rollout_of(world).number == versions


def test_while_a_release_runs_its_own_guards_judge():
    world, health, replicas = promoted()
    world.release(3)
    world.run(5)
    for _ in range(8):
        world.clock.sleep(60)
        for node in NODES:
            replicas.crash("img-r2", node)
    lives, running = replicas.lives("img-r2"), rollout_of(world)
    assert remedy_for(blamed(lives, NODES, world.clock.now())["img-r2"]).remedy is Remedy.ROLL_BACK
    assert health.look(lives, NODES, world.clock.now()) == ()
    assert (rollout_of(world), running.kind, world.system.stable.name) == (running, RolloutKind.RELEASE, "img-r2")


def test_the_fleets_crank_looks_at_what_the_cluster_tells_of_replicas():
    world, _, replicas = promoted()
    fleet = FleetWorld(3, clock=world.clock, store=world.store)
    for _ in range(8):
        world.run(60)
        for node in NODES:
            replicas.crash("img-r2", node)
    fleet.fleet.replicas = replicas.lives("img-r2")
    fleet.run(20)
    assert rollout_of(world).kind is RolloutKind.ROLLBACK
    assert world.until_settled().candidate.name == "img-r1"
