"""Drills under the real controller: judged like releases, never promoted, and gone afterwards."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.release_traffic import Profile, Traffic
from platformops.delivery import orders
from platformops.delivery.decisions import explain
from platformops.delivery.documents import revision_from, revision_json
from platformops.delivery.drills import (
    DEFECTS,
    PATIENCE_S,
    case_of,
    drill_document,
    manner_before,
    manner_of,
    planted,
    request_drill,
)
from platformops.delivery.records import Planted, RolloutKind, RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import candidate_of, load_ledger, newest_rollout
from platformops.errors import GateRefused, UserError
from platformops.registry.registry import aliases, get_verdicts
from tests.simulation.world import Script, World, check_settled

GUARDED = {"steps": ("shadow", "1%", "10%", "50%", "100%"), "min_bake": "10s"}
S = RolloutState


def live(rate=100.0, script=None, **profiles):
    traffic = Traffic(rate, {f"img-r{n[1:]}": p for n, p in profiles.items()}, np.random.default_rng(0), labelled=0.1)
    world = World(script, traffic=traffic, release=GUARDED)
    world.release(1)
    assert world.until_settled().state is S.PROMOTED
    return world


def drill(world, name="errors"):
    manner = manner_of(world.spec)
    return request_drill(world.store, "img", DEFECTS[name], manner, typical_s=0.01, now=world.clock.now())


def rollout_of(world):
    return newest_rollout(world.store, "img")[0]


def test_there_are_twelve_defects():
    assert len(DEFECTS) == 12


@pytest.mark.parametrize(
    ("profile", "script", "state", "caught_by"),
    [
        (Profile(), Script(broken={"img-r2": "exit code 3"}), "refused", {"deploy"}),
        (Profile(), Script(wrong={"img-r2"}), "refused", {"parity"}),
        (Profile(errors=0.02), None, "rolled_back", {"errors"}),
        (Profile(deadlines=0.3), None, "rolled_back", {"errors"}),
        (Profile().slower(1.3), None, "rolled_back", {"latency", "tail"}),
        (Profile(disagreement=0.04, wrong=(0.03, 0.0)), None, "rolled_back", {"quality", "disagreement"}),
        (Profile(leak_bytes_per_request=131_072.0), None, "rolled_back", {"memory"}),
        (Profile(crashes_after=40), None, "rolled_back", {"crash loop"}),
    ],
    ids=["start", "answers", "errors", "hang", "latency", "accuracy", "memory", "crashes"],
)
def test_a_defect_is_caught_and_nothing_but_the_record_of_the_drill_is_left(profile, script, state, caught_by):
    world = live(script=script, r2=profile)
    before = (world.system.stable, aliases(world.store, "img"), explain(world.store, "img"))
    drill(world)
    ended = world.until_settled()
    assert ended.state.value == state, ended.reason
    case = case_of("errors", ended, load_ledger(world.store, ended)[0], lost=0, to_stable_s=0.4)
    assert case.caught_by in caught_by
    assert case.passed
    assert (world.system.stable, aliases(world.store, "img"), explain(world.store, "img")) == before
    assert not get_verdicts(world.store, "img", 1).refused_by, "the live version is not to blame"
    assert explain(world.store, ended.name)[0].reason == ended.reason
    check_settled(world)


def test_a_copy_that_nothing_stops_is_not_promoted_and_fails_the_drill():
    world = live()
    drill(world)
    ended = world.until_settled()
    assert (ended.state, ended.steps[ended.step]) == (S.ROLLED_BACK, "50%")
    case = case_of("errors", ended, load_ledger(world.store, ended)[0], lost=0, to_stable_s=0.0)
    assert (case.caught_by, case.passed) == ("", False)
    assert "no gate and no guard stopped it" in case.reason
    assert world.system.stable.name == "img-r1"
    document = drill_document([case])
    assert not document["passed"]
    assert {"name", "caught_by", "requests_to_verdict", "exposure_ratio", "requests_lost"} <= set(document["cases"][0])


def test_a_drill_whose_requests_cease_ends_by_itself():
    world = live()
    drill(world)
    while rollout_of(world).state is not S.SHIFTING:
        world.turn()
    world.cluster.traffic.rate_per_s = 0.0
    began = world.clock.now()
    assert world.until_settled().state is S.ROLLED_BACK
    assert world.clock.now() - began < PATIENCE_S + 30


def test_while_a_drill_runs_a_release_is_refused_or_waits_and_the_drill_while_a_release_runs_too():
    world = live()
    drill(world)
    world.run(3)
    with pytest.raises(GateRefused, match="a drill is running"):
        world.release(2)
    world.release(2, queue=True)
    orders.abort(world.store, "img", who="ada", now=world.clock.now())
    world.run(3)
    assert rollout_of(world).candidate.version == 2
    with pytest.raises(GateRefused, match="nothing can be drilled"):
        drill(world)
    assert world.until_settled().state is S.PROMOTED


def test_a_rollback_in_the_middle_of_a_drill_ends_it_and_goes_back():
    world = live(r3=Profile(errors=0.001))
    world.release(2)
    assert world.until_settled().state is S.PROMOTED
    drill(world)
    while rollout_of(world).state is not S.SHIFTING:
        world.turn()
    back = orders.roll_back(world.store, "img", who="ada", now=world.clock.now())
    assert back.kind is RolloutKind.ROLLBACK
    world.until_settled()
    assert world.system.stable.name == "img-r1"
    check_settled(world)


def test_a_rollback_after_a_drill_goes_where_it_would_have_gone_without():
    world = live()
    world.release(2)
    world.until_settled()
    drill(world)
    orders.abort(world.store, "img", who="ada", now=world.clock.now())
    world.until_settled()
    orders.roll_back(world.store, "img", who="ada", now=world.clock.now())
    world.until_settled()
    assert world.system.stable.name == "img-r1"
    drill(world)
    orders.abort(world.store, "img", who="ada", now=world.clock.now())
    world.until_settled()
    assert orders.roll_back(world.store, "img", who="ada", now=world.clock.now()).candidate.name == "img-r1"
    assert not is_running(rollout_of(world)), "asked twice, done once, whatever was drilled between"


def test_a_drill_is_judged_on_the_terms_of_the_system_and_waits_for_nobody():
    world = live()
    manner = manner_before(world.store, "img")
    assert manner.conditions == world.spec.gates
    assert manner.steps == GUARDED["steps"], "a first release went to all at once, which guards nobody"
    asked = drill(world)
    assert (asked.terms.errors_margin, asked.terms.approvers, asked.terms.min_bake_s) == (0.005, (), 2.0)
    assert asked.candidate == replace(asked.stable, number=2, planted=Planted("errors", 0.01))


def test_parity_is_not_asked_of_a_defect_that_stands_for_another_model():
    world = live()
    assert drill(world, "accuracy").conditions == {**world.spec.gates, "parity": "1"}


def test_the_size_of_a_delay_comes_from_what_answers_take():
    assert planted(DEFECTS["latency"], 0.05) == Planted("latency", pytest.approx(0.01))
    assert planted(DEFECTS["errors"], 0.05).size == 0.01


def test_nothing_but_a_drill_plants_a_defect():
    world = live()
    assert candidate_of(world.spec, world.version(2), (), number=2).planted is None
    revision = replace(world.system.stable, planted=Planted("hang", 1.0))
    assert revision_from(json.loads(json.dumps(revision_json(revision)))) == revision
    assert "planted" not in revision_json(world.system.stable)
    assert not revision.serves_the_same(world.system.stable)


def test_what_is_not_live_cannot_be_drilled():
    with pytest.raises(UserError, match="no live system"):
        drill(World())
