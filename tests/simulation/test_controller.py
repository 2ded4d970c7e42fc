"""Releases under the real controller, a fake cluster and a clock that jumps; faults are scripted, invariants held."""

import random

import pytest

from platformops import controller
from platformops.controller import take_over, turn
from platformops.delivery.decisions import explain
from platformops.delivery.records import RolloutState
from platformops.delivery.systems import load_rollout, newest_rollout, stop_system
from platformops.errors import GateRefused, LeaseLost
from platformops.registry.registry import aliases, get_verdicts
from platformops.spec.types import ServeSpec
from tests.simulation.world import Script, World, check_settled


def promoted(world, number=1):
    world.release(number)
    rollout = world.until_settled()
    assert rollout.state is RolloutState.PROMOTED, rollout.reason
    return world


def test_a_first_release_is_promoted_routed_and_named_champion():
    world = promoted(World())
    assert world.system.stable.name == "img-r1"
    assert world.cluster.answers("img")
    assert aliases(world.store, "img")["champion"].number == 1
    assert [g.name for g in load_rollout(world.store, "img", 1).gates] == ["accuracy", "servable", "parity", "p99_ms"]


def test_a_second_release_replaces_the_first_without_a_moment_without_answers():
    world = promoted(World())
    world.release(2)
    while world.system.stable.version != 2:
        world.turn()
        assert world.cluster.answers("img")
    world.run(30)
    check_settled(world)
    assert world.cluster.removed == ["img-r1"]


def test_the_old_revision_is_kept_until_its_requests_are_answered():
    world = promoted(World())
    world.release(2)
    while world.system.stable.version != 2:
        world.turn()
    world.run(5)  # the time limit of a request is 1 s, and routers have 5 s to learn
    assert set(world.cluster.deployed) == {"img-r1", "img-r2"}
    world.run(3)
    assert set(world.cluster.deployed) == {"img-r2"}


@pytest.mark.parametrize(
    ("script", "gate", "ever_deployed"),
    [
        (Script(weak={"img-r2"}), "accuracy", False),
        (Script(broken={"img-r2": "ImportError: torch"}), "deploy", True),
        (Script(stuck={"img-r2"}), "deploy", True),
        (Script(wrong={"img-r2"}), "parity", True),
    ],
    ids=["weak", "broken", "stuck", "wrong answers"],
)
def test_a_refused_candidate_changes_nothing_for_users_and_why_names_the_gate(script, gate, ever_deployed):
    world = promoted(World(script))
    route = world.cluster.routes["img"]
    world.release(2)
    rollout = world.until_settled()
    assert rollout.state is RolloutState.REFUSED
    assert world.cluster.routes["img"] == route
    assert (world.cluster.removed == ["img-r2"]) is ever_deployed
    for subject in ("img", "img:v2", "img:rollout-2"):
        (decision, *_) = explain(world.store, subject)
        assert decision.decision == "refused img:v2 (img-r2)"
        assert any(g["name"] == gate and not g["passed"] for g in decision.evidence)
        assert gate in decision.would_change
    assert get_verdicts(world.store, "img", 2).refused_by == (gate,)
    assert aliases(world.store, "img")["champion"].number == 1
    assert aliases(world.store, "img")["candidate"].number == 2


def test_a_candidate_that_dies_as_it_takes_traffic_is_rolled_back():
    world = promoted(World(Script(dies_under_traffic={"img-r2"})))
    world.release(2)
    rollout = world.until_settled()
    assert rollout.state is RolloutState.ROLLED_BACK
    assert world.cluster.answers("img")
    assert get_verdicts(world.store, "img", 2).refused_by == ("traffic",)


def test_a_better_candidate_can_follow_a_refused_one():
    world = promoted(World(Script(weak={"img-r2"})))
    world.release(2)
    world.until_settled()
    world.release(3)
    assert world.until_settled().state is RolloutState.PROMOTED
    assert world.system.stable.name == "img-r3"


def test_a_release_while_one_runs_is_refused_with_the_reason():
    world = promoted(World())
    world.release(2)
    world.run(2)
    with pytest.raises(GateRefused, match="img:v2 is being released"):
        world.release(3)
    world.until_settled()


def test_asking_again_for_what_runs_or_is_stable_changes_nothing():
    world = World()
    first = world.release(1)
    assert world.release(1) == first
    world.run(2)
    assert world.release(1).number == 1
    world.until_settled()
    versions = [e.version for e in world.store.scan("system/")]
    assert world.release(1).state is RolloutState.PROMOTED
    assert newest_rollout(world.store, "img")[0].number == 1
    assert [e.version for e in world.store.scan("system/")] == versions


def test_the_same_version_served_otherwise_is_a_new_revision():
    world = promoted(World())
    other = world.spec.model_copy(update={"serve": ServeSpec(timeout_s=2.0)})
    world.release(1, other)
    world.until_settled()
    assert world.system.stable.name == "img-r2"
    assert world.system.stable.version == 1
    assert world.system.serve["timeout_s"] == 2.0


def test_a_stopped_system_loses_its_replicas_and_comes_back_when_asked():
    world = promoted(World())
    assert stop_system(world.store, "img", now=world.clock.now())
    world.run(5)
    assert world.cluster.deployed == {}
    assert world.system.route is None
    assert not stop_system(world.store, "img", now=world.clock.now())
    world.release(1)
    world.run(10)
    check_settled(world)
    assert world.system.stable.name == "img-r1"


def test_a_release_that_is_asked_for_while_the_controller_looks_brings_a_stopped_system_back():
    """Asking the cluster takes a second when it has just started: the release comes between two looks at the store."""
    world = promoted(World())
    stop_system(world.store, "img", now=world.clock.now())
    world.run(5)
    seen, asked = world.cluster.revisions, []

    def revisions():
        if not asked:
            asked.append(world.release(2))
        return seen()

    world.cluster.revisions = revisions
    assert world.until_settled().state is RolloutState.PROMOTED
    assert world.system.stable.name == "img-r2"


def test_stopping_a_system_aborts_its_rollout():
    world = promoted(World())
    world.release(2)
    world.run(3)
    stop_system(world.store, "img", now=world.clock.now())
    assert world.until_settled().state is RolloutState.ABORTED
    assert world.cluster.deployed == {}


def test_after_a_power_cut_everything_comes_back():
    world = promoted(World())
    world.cluster.forget_processes()
    world.epoch = None
    world.clock.sleep(86_400)
    world.run(10)
    check_settled(world)


def test_a_power_cut_in_the_middle_of_a_release_ends_as_it_would_have():
    for turns in range(1, 30):
        world = promoted(World())
        world.release(2)
        world.run(turns / 2)
        world.cluster.forget_processes()
        world.epoch = None
        world.clock.sleep(7200)
        assert world.until_settled().state is RolloutState.PROMOTED
        assert world.system.stable.name == "img-r2"


def test_a_stable_revision_that_fails_is_started_afresh():
    script = Script()
    world = promoted(World(script))
    script.broken["img-r1"] = "out of memory"
    world.run(5)
    assert not world.cluster.answers("img")
    del script.broken["img-r1"]
    world.cluster.deployed["img-r1"] = world.clock.now() - 60
    script.broken["img-r1"] = "out of memory"
    before = world.clock.now()
    world.run(1)
    assert world.cluster.deployed["img-r1"] > before
    del script.broken["img-r1"]
    world.run(10)
    check_settled(world)


def test_an_unreachable_cluster_stops_decisions_and_loses_nothing():
    script = Script()
    world = promoted(World(script))
    world.release(2)
    world.run(2)
    script.unreachable_until_s = world.clock.now() + 30
    state = newest_rollout(world.store, "img")[0].state
    world.run(20)
    assert newest_rollout(world.store, "img")[0].state is state
    assert world.until_settled().state is RolloutState.PROMOTED


def test_of_two_controllers_the_older_can_neither_commit_nor_act():
    world = World()
    world.release(1)
    old = take_over(world.store, "old", world.clock.now())
    new = take_over(world.store, "new", world.clock.now())
    with pytest.raises(LeaseLost):
        turn(world.store, world.cluster, world.clock, old)
    assert world.cluster.under_way == {}
    turn(world.store, world.cluster, world.clock, new)
    assert world.cluster.under_way


def test_a_controller_that_is_overtaken_between_look_and_commit_commits_nothing():
    world = promoted(World())
    world.release(2)
    world.turn()
    before = newest_rollout(world.store, "img")
    seen = world.cluster.revisions

    def overtaken():
        take_over(world.store, "new", world.clock.now())
        return seen()

    world.clock.sleep(10)  # the evaluation is complete by now, so there is something to commit
    world.cluster.revisions = overtaken
    with pytest.raises(LeaseLost):
        turn(world.store, world.cluster, world.clock, world.epoch)
    assert newest_rollout(world.store, "img") == before


def test_the_status_says_what_is_served_and_by_which_controller():
    world = promoted(World())
    status = world.store.get(controller.STATUS).value
    (system,) = status["systems"]
    assert system["state"] == "live"
    assert system["revision"] == "img-r1"
    assert system["weights"] == {"img-r1": 100.0}
    assert system["replicas"] == {"ready": 1, "wanted": 1}
    assert status["nodes"] == [{"id": "n1", "address": "127.0.0.1", "state": "alive", "cpus": 2.0}]
    assert status["epoch"] == world.epoch


def release_twice(script=None, **faults):
    """A promoted v1, then v2, with faults counted from the first touch of the second release."""
    world = promoted(World(script))
    offset = world.touches
    world.kill_at = {offset + k for k in faults.get("kill_at", ())}
    world.conflict_at = {offset + k for k in faults.get("conflict_at", ())}
    world.release(2)
    return world, offset, world.until_settled()


@pytest.mark.parametrize("script", [None, Script(wrong={"img-r2"})], ids=["good", "wrong answers"])
def test_a_controller_killed_at_any_point_ends_the_release_as_it_would_have(script):
    world, offset, undisturbed = release_twice(script)
    moving = world.touches - offset - 18 * 4  # the last turns only watch
    for point in range(1, moving):
        again, _, rollout = release_twice(script, kill_at=[point])
        assert again.kills == 1
        assert (rollout.state, rollout.candidate.name) == (undisturbed.state, undisturbed.candidate.name), point
        assert len(explain(again.store, rollout.name)) == len(explain(world.store, rollout.name)), point


@pytest.mark.parametrize("seed", range(20))
def test_random_kills_conflicts_and_faults_break_no_invariant(seed):
    luck = random.Random(seed)
    script = Script(start_s=luck.uniform(0, 8))
    world = promoted(World(script))
    for number in range(2, 6):
        name = f"img-r{number}"
        defect = luck.choice(["none", "none", "weak", "wrong", "stuck", "broken", "dies"])
        if defect == "broken":
            script.broken[name] = "no"
        elif defect != "none":
            getattr(script, {"dies": "dies_under_traffic"}.get(defect, defect)).add(name)
        now = world.touches
        world.kill_at = {now + luck.randrange(400) for _ in range(luck.randrange(6))}
        world.conflict_at = {now + luck.randrange(200) for _ in range(20)}
        world.release(number)
        rollout = world.until_settled(limit_s=2000)
        expected = {"none": "promoted", "dies": "rolled_back"}.get(defect, "refused")
        assert rollout.state.value == expected, (defect, rollout.reason)
        assert world.cluster.answers("img")


def test_a_controller_that_is_overtaken_before_it_acts_leaves_the_acting_to_the_new_one():
    world = World()
    world.release(1)
    while newest_rollout(world.store, "img")[0].state is RolloutState.PENDING:
        world.turn()
    nodes = world.cluster.nodes

    def overtaken():
        take_over(world.store, "new", world.clock.now())
        return nodes()

    world.cluster.nodes = overtaken
    with pytest.raises(LeaseLost):  # it wanted to deploy
        turn(world.store, world.cluster, world.clock, world.epoch)
    assert world.cluster.deployed == {}
