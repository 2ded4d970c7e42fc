"""Releases in steps under the real controller, with generated traffic and a clock that jumps."""

import random

import numpy as np
import pytest

from benchmarks.release_traffic import Profile, Traffic
from platformops.delivery import baking, orders
from platformops.delivery.decisions import explain
from platformops.delivery.records import RolloutKind, RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import load_ledger, load_queued, newest_rollout, stop_system
from platformops.errors import GateRefused, InvalidTransition, UserError
from platformops.registry.registry import aliases, get_verdicts
from platformops.spec.types import EnvironmentSpec
from tests.simulation.world import Script, World, check_settled

GUARDED = {"steps": ("shadow", "1%", "10%", "50%", "100%"), "min_bake": "10s"}
S = RolloutState


def guarded(rate=100.0, candidate=None, script=None, *, seed=0, release=None, labelled=0.0, **faults):
    """A promoted v1 with traffic, and v2 just asked for."""
    profiles = {"img-r2": candidate} if candidate else {}
    traffic = Traffic(rate, profiles, np.random.default_rng(seed), labelled=labelled)
    world = World(script, traffic=traffic, release={**GUARDED, **(release or {})}, **faults)
    world.release(1)
    assert world.until_settled().state is S.PROMOTED
    traffic.requests, traffic.exposed = 0, {}
    world.release(2)
    return world


def rollout_of(world):
    return newest_rollout(world.store, "img")[0]


def until(world, state, limit_s=900):
    for _ in range(int(limit_s * 2)):
        if rollout_of(world).state is state:
            return rollout_of(world)
        world.turn()
    raise AssertionError(rollout_of(world))


def shares(world):
    """The steps that the candidate's traffic went through, as decided."""
    return [d.decision.rpartition("step ")[2] for d in reversed(explain(world.store, "img:rollout-2"))
            if "shifting" in d.decision]  # fmt: skip


def test_a_first_release_goes_to_all_traffic_at_once():
    traffic = Traffic(0.0, {}, np.random.default_rng(0))
    world = World(traffic=traffic, release=GUARDED)
    world.release(1)
    assert world.until_settled(limit_s=60).state is S.PROMOTED


def test_a_good_candidate_climbs_every_step_and_is_promoted_without_a_restart():
    world = guarded()
    started = until(world, S.SHIFTING)
    deployed_at = world.cluster.deployed["img-r2"]
    rollout = world.until_settled()
    assert rollout.state is S.PROMOTED, rollout.reason
    assert shares(world) == ["shadow", "1%", "10%", "50%", "100%"]
    assert world.cluster.deployed["img-r2"] == deployed_at
    assert {"errors", "latency", "disagreement"} <= {g.name for g in rollout.gates if g.passed}
    assert rollout.changed_at - started.changed_at < 120
    assert aliases(world.store, "img")["champion"].number == 2


def test_shadow_answers_nobody():
    world = guarded(candidate=Profile(errors=1.0))
    rollout = world.until_settled()
    assert rollout.state is S.ROLLED_BACK
    assert world.cluster.traffic.exposed.get("img-r2", 0) == 0


@pytest.mark.parametrize(
    ("candidate", "guards"),
    [
        (Profile(errors=0.011), {"errors"}),
        (Profile(deadlines=0.3), {"errors"}),
        (Profile().slower(1.25), {"latency", "tail"}),
        (Profile(disagreement=0.9), {"disagreement"}),
        (Profile(disagreement=0.05, wrong=(0.04, 0.01)), {"quality", "disagreement"}),
        (Profile(leak_bytes_per_request=100_000.0), {"memory"}),
    ],
    ids=["errors", "deadlines", "latency", "labels", "quality", "memory"],
)
def test_a_harmful_candidate_loses_its_traffic_and_why_says_on_which_evidence(candidate, guards):
    world = guarded(candidate=candidate, labelled=0.2)
    rollout = world.until_settled()
    assert rollout.state is S.ROLLED_BACK
    (guilty,) = [g for g in rollout.gates if not g.passed]
    assert guilty.name in guards
    assert get_verdicts(world.store, "img", 2).refused_by == (guilty.name,)
    assert world.cluster.routes["img"].weights == {"img-r1": 100.0}
    assert world.cluster.routes["img"].shadow == ""
    (decision, *_) = explain(world.store, "img:v2")
    assert "does harm" in decision.reason
    assert guilty.name in decision.would_change
    exposed = world.cluster.traffic.exposed.get("img-r2", 0)
    is_slow = candidate.median_ms > Profile().median_ms
    assert exposed <= (0.2 if is_slow else 0.01) * world.cluster.traffic.requests, "only its users show that it is slow"


def test_what_copies_take_is_no_evidence_of_latency():
    """Beside the next request of a user they take half as long again on two cores, whatever the model."""
    world = guarded(candidate=Profile().slower(1.5), release={"min_bake": "1m"})
    until(world, S.SHIFTING)
    world.run(50)
    ledger, _ = load_ledger(world.store, rollout_of(world))
    assert rollout_of(world).steps[rollout_of(world).step] == "shadow"
    assert ledger.of("img-r2").copies > 1000
    assert not ledger.of("img-r2").latencies


def test_a_step_with_few_users_needs_no_proof_of_speed_but_the_last_one_before_all_traffic_does():
    world = guarded(rate=20.0)
    passed = {}
    while is_running(rollout_of(world)):
        before = rollout_of(world)
        world.turn()
        if rollout_of(world).step > before.step:
            (latency,) = [g for g in rollout_of(world).gates if g.name == "latency"]
            passed[before.steps[before.step]] = latency.evidence.get("proven")
    assert passed == {"shadow": None, "1%": None, "10%": None, "50%": True}


def test_a_proof_of_speed_is_not_asked_for_where_no_step_gives_the_candidate_users():
    world = guarded(release={"steps": ("shadow", "100%")})
    assert world.until_settled().state is S.PROMOTED


def test_harm_that_begins_at_a_later_step_is_found_there():
    world = guarded()
    while world.cluster.traffic.exposed.get("img-r2", 0) < 200:
        world.turn()
    world.cluster.traffic.profiles["img-r2"] = Profile(errors=0.2)
    rollout = world.until_settled()
    assert rollout.state is S.ROLLED_BACK
    assert world.cluster.traffic.exposed["img-r2"] < 200 + 200, "of users who met it, and were answered by stable"


def test_after_the_verdict_stable_has_all_traffic_in_the_same_turn():
    world = guarded(candidate=Profile(errors=0.05), release={"steps": ("10%", "100%")})
    while is_running(rollout_of(world)):
        world.turn()
    assert world.cluster.routes["img"].weights == {"img-r1": 100.0}


def test_without_traffic_nothing_is_promoted_and_what_is_missing_is_said():
    world = guarded(rate=0.0)
    until(world, S.SHIFTING)
    world.run(120)
    rollout = rollout_of(world)
    ledger, _ = load_ledger(world.store, rollout)
    assert rollout.state is S.SHIFTING
    said = baking.waiting(rollout, ledger, world.clock.now())
    assert baking.left_s(rollout, ledger, world.clock.now()) is None
    assert "more requests are needed (errors)" in said
    assert "none come at present" in said
    assert "held for 24 h, then stable keeps the traffic" in said


def test_a_step_that_is_never_proven_gives_the_traffic_back():
    world = guarded(rate=0.02, release={"max_bake": "5m", "patience": "10m"})
    rollout = world.until_settled()
    assert rollout.state is S.ROLLED_BACK
    assert "more requests are needed" in rollout.reason
    assert get_verdicts(world.store, "img", 2).refused_by == ("evidence",)


def test_where_the_spec_allows_it_a_quiet_step_passes_at_the_end_of_its_time():
    world = guarded(rate=0.02, release={"max_bake": "2m", "unproven": "pass"})
    rollout = world.until_settled()
    assert rollout.state is S.PROMOTED
    assert 4 * 120 < rollout.changed_at - rollout.started_at < 600
    assert "passed without proof" in explain(world.store, "img", limit=2)[1].reason


def test_an_approval_lets_a_quiet_release_go_on_and_is_on_record():
    world = guarded(rate=0.02)
    until(world, S.SHIFTING)
    orders.approve(world.store, "img", who="ada", now=world.clock.now())
    rollout = world.until_settled()
    assert rollout.state is S.PROMOTED
    assert "approved by ada" in rollout.reason
    assert any("ada approved img:v2" in d.decision for d in explain(world.store, "img", limit=20))


def test_an_approval_does_not_silence_the_guards():
    world = guarded(candidate=Profile(errors=0.3), release={"min_bake": "2m", "steps": ("10%", "100%")})
    until(world, S.SHIFTING)
    orders.approve(world.store, "img", who="ada", now=world.clock.now())
    assert world.until_settled().state is S.ROLLED_BACK


def test_a_production_environment_waits_for_one_of_those_it_names():
    traffic = Traffic(100.0, {}, np.random.default_rng(0))
    world = World(traffic=traffic, release=GUARDED)
    world.release(1)
    world.until_settled()
    spec = world.spec.model_copy(update={"environments": {"production": EnvironmentSpec(approve=("ada", "bob"))}})
    world.release(2, spec)
    until(world, S.AWAITING)
    world.run(100)
    assert world.cluster.routes["img"].weights == {"img-r1": 100.0}
    with pytest.raises(GateRefused, match="eve may not approve"):
        orders.approve(world.store, "img", who="eve", now=world.clock.now())
    orders.approve(world.store, "img", who="bob", now=world.clock.now())
    assert world.until_settled().state is S.PROMOTED


def test_a_paused_rollout_stays_at_its_step_under_guard_and_goes_on_when_resumed():
    world = guarded()
    until(world, S.SHIFTING)
    while rollout_of(world).step < 2:
        world.turn()
    orders.pause(world.store, "img", who="ada", now=world.clock.now())
    world.run(300)
    assert rollout_of(world).state is S.PAUSED
    assert world.cluster.routes["img"].weights == {"img-r1": 90.0, "img-r2": 10.0}
    orders.resume(world.store, "img", who="ada", now=world.clock.now())
    assert world.until_settled().state is S.PROMOTED


def test_a_paused_rollout_that_turns_harmful_is_rolled_back():
    world = guarded()
    until(world, S.SHIFTING)
    orders.pause(world.store, "img", who="ada", now=world.clock.now())
    world.cluster.traffic.profiles["img-r2"] = Profile(errors=0.3)
    assert world.until_settled().state is S.ROLLED_BACK


def test_with_on_fail_pause_the_candidate_stays_without_traffic_until_it_is_resumed_or_aborted():
    world = guarded(candidate=Profile(errors=0.2), release={"on_fail": "pause"})
    until(world, S.HALTED)
    world.run(60)
    assert world.cluster.routes["img"].weights == {"img-r1": 100.0}
    assert world.cluster.routes["img"].shadow == ""
    assert "img-r2" in world.cluster.deployed
    world.cluster.traffic.profiles["img-r2"] = Profile()
    orders.resume(world.store, "img", who="ada", now=world.clock.now())
    assert world.until_settled().state is S.PROMOTED


def test_an_abort_gives_all_traffic_back_and_marks_nothing():
    world = guarded()
    until(world, S.SHIFTING)
    orders.abort(world.store, "img", who="ada", now=world.clock.now())
    assert world.until_settled().state is S.ROLLED_BACK
    assert "aborted by ada" in rollout_of(world).reason


def test_orders_without_a_running_release_are_refused():
    world = guarded()
    world.until_settled()
    for order in (orders.pause, orders.resume, orders.abort, orders.approve):
        with pytest.raises(UserError, match="no release of 'img' is running"):
            order(world.store, "img", who="ada", now=world.clock.now())


def test_what_has_no_traffic_yet_cannot_be_paused():
    world = guarded()
    with pytest.raises(InvalidTransition):
        orders.pause(world.store, "img", who="ada", now=world.clock.now())


def roll_back(world):
    return orders.roll_back(world.store, "img", who="ada", now=world.clock.now())


def test_a_rollback_after_promotion_returns_at_once_to_the_version_before_which_is_still_warm():
    world = guarded(release={"keep_warm": "10m"})
    world.until_promoted = until(world, S.PROMOTED)
    world.run(60)
    warm_since = world.cluster.deployed["img-r1"]
    asked_at = world.clock.now()
    back = roll_back(world)
    assert back.kind is RolloutKind.ROLLBACK
    rollout = until(world, S.PROMOTED, limit_s=10) if rollout_of(world).state is S.PROMOTED else None
    while is_running(rollout_of(world)):
        world.turn()
    rollout = rollout_of(world)
    assert rollout.state is S.PROMOTED
    assert world.clock.now() - asked_at <= 5
    assert world.cluster.deployed["img-r1"] == warm_since
    assert world.cluster.routes["img"].weights == {"img-r1": 100.0}
    assert roll_back(world) == rollout, "asked twice, done once"
    world.run(30)
    check_settled(world)
    assert aliases(world.store, "img")["champion"].number == 1


def test_a_rollback_skips_what_was_rolled_back_from_before():
    world = guarded()
    world.until_settled()
    roll_back(world)
    world.until_settled()
    world.release(3)
    assert world.until_settled().candidate.name == "img-r4"
    assert roll_back(world).candidate.name == "img-r1"
    assert world.until_settled().state is S.PROMOTED


def test_a_rollback_while_a_release_runs_ends_the_release():
    world = guarded()
    until(world, S.SHIFTING)
    assert roll_back(world).state is S.ROLLED_BACK
    world.until_settled()
    assert world.system.stable.name == "img-r1"


def test_the_only_version_has_nothing_to_go_back_to():
    world = World(traffic=Traffic(1.0, {}, np.random.default_rng(0)), release=GUARDED)
    world.release(1)
    world.until_settled()
    with pytest.raises(UserError, match="no earlier version"):
        roll_back(world)


def test_a_queued_release_starts_when_the_running_one_ends():
    world = guarded(candidate=Profile(errors=0.3))
    until(world, S.SHIFTING)
    with pytest.raises(GateRefused, match="is being released"):
        world.release(3)
    assert world.release(3, queue=True).number == 0
    assert load_queued(world.store, "img")[0].candidate.version == 3
    while rollout_of(world).number == 2:
        world.turn()
    assert load_queued(world.store, "img")[0] is None
    rollout = world.until_settled()
    assert (rollout.state, rollout.candidate.name, rollout.stable.name) == (S.PROMOTED, "img-r3", "img-r1")


def test_a_system_that_is_stopped_while_it_releases_gives_up_the_release():
    world = guarded()
    until(world, S.SHIFTING)
    stop_system(world.store, "img", now=world.clock.now())
    world.run(30)
    assert rollout_of(world).state is S.ROLLED_BACK
    assert world.cluster.deployed == {}


@pytest.mark.parametrize("candidate", [Profile(), Profile(errors=0.05)], ids=["good", "errors"])
@pytest.mark.parametrize("seed", range(6))
def test_a_controller_killed_at_random_points_ends_the_release_as_it_would_have(candidate, seed):
    luck = random.Random(seed)
    world = guarded(candidate=candidate, seed=seed)
    now = world.touches
    world.kill_at = {now + luck.randrange(250) for _ in range(12)}
    world.conflict_at = {now + luck.randrange(900) for _ in range(20)}
    rollout = world.until_settled(limit_s=2000)
    assert world.kills >= 3
    assert rollout.state is (S.PROMOTED if candidate == Profile() else S.ROLLED_BACK)


QUICK = {"steps": ("shadow", "50%", "100%"), "min_bake": "1s", "margins": {"errors": "5%", "latency": "50%"}}
STORIES = {
    "good": (Profile(), None, "promoted"),
    "errors": (Profile(errors=0.3), None, "rolled_back"),
    "wrong answers": (Profile(), Script(wrong={"img-r2"}), "refused"),
    "crash loop": (Profile(crashes_after=50), None, "rolled_back"),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("quarter", range(5))
def test_a_controller_killed_at_any_of_a_hundred_random_points_ends_the_release_as_it_would_have(story, quarter):
    """Five points a case, between any two operations of store and cluster from the request to its end."""
    candidate, script, expected = STORIES[story]

    def released(kill_at):
        world = guarded(candidate=candidate, script=script, release=QUICK, rate=200.0)
        offset = world.touches
        world.kill_at = {offset + kill_at} if kill_at else set()
        while is_running(rollout_of(world)):
            world.turn()
        ended_at = world.touches - offset
        return world, world.until_settled(), ended_at

    undisturbed, rollout, last = released(0)
    assert rollout.state.value == expected
    luck = random.Random(f"{story}{quarter}")
    for point in luck.sample(range(1, last), 5):
        world, again, _ = released(point)
        assert world.kills == 1
        assert (again.state, again.candidate, again.stable) == (rollout.state, rollout.candidate, rollout.stable), point
        assert world.system.stable == undisturbed.system.stable, point
        told = [d.decision for d in explain(world.store, again.name)]
        assert told == [d.decision for d in explain(undisturbed.store, rollout.name)], point


def test_who_watches_sees_evidence_exposure_and_what_is_missing():
    world = guarded(release={"steps": ("10%", "100%")})
    until(world, S.SHIFTING)
    world.run(5)
    rollout = rollout_of(world)
    ledger, _ = load_ledger(world.store, rollout)
    said = baking.progress(rollout, ledger, world.clock.now())
    assert "step 10%: about" in said
    assert "of 20 to 1" in said
    assert f"exposed {ledger.of('img-r2').requests:,} of" in said
    assert baking.left_s(rollout, ledger, world.clock.now()) > 0


def test_evidence_survives_the_controller():
    world = guarded(candidate=Profile(errors=0.005), release={"steps": ("10%", "100%"), "min_bake": "1h"})
    until(world, S.SHIFTING)
    world.run(20)
    before, _ = load_ledger(world.store, rollout_of(world))
    world.epoch = None
    world.run(2)
    after, _ = load_ledger(world.store, rollout_of(world))
    assert after.since == before.since
    assert after.of("img-r2").requests > before.of("img-r2").requests


def test_a_router_that_is_gone_for_a_while_in_the_middle_of_a_step_ends_nothing():
    world = guarded(rate=20.0, release={"min_bake": "2m"})
    until(world, S.SHIFTING)
    world.run(130)
    world.cluster.routes = {}
    world.cluster.set_route = lambda route: None
    world.run(20)
    assert rollout_of(world).state is S.SHIFTING
    del world.cluster.set_route
    assert world.until_settled(limit_s=2000).state is S.PROMOTED


def test_a_crash_loop_under_traffic_ends_the_release():
    world = guarded(candidate=Profile(crashes_after=50))
    rollout = world.until_settled()
    assert rollout.state is S.ROLLED_BACK
    assert "died" in rollout.reason


def test_the_unexpected_is_only_as_strict_as_the_test_rows_allow():
    """A model that was meant to answer otherwise on one input in five is not harmful for it."""
    world = guarded(candidate=Profile(disagreement=0.2), script=Script(disagreement=0.21))
    assert world.until_settled().state is S.PROMOTED
