"""The rollout's table and its decisions, one state at a time."""

import json
from dataclasses import replace

import pytest

from platformops.delivery.documents import rollout_from, rollout_json
from platformops.delivery.records import (
    Approval,
    DeployRevision,
    Evaluation,
    Evidence,
    ExaminationKind,
    Examine,
    ParityReport,
    Replay,
    Revision,
    RevisionState,
    RevisionStatus,
    Rollout,
    RolloutEvent,
    RolloutKind,
    RolloutState,
)
from platformops.delivery.rollout import (
    DEADLINE_S,
    ROLLOUT,
    TERMINAL,
    decide,
    examination,
    is_running,
    shadow,
    weights,
)
from platformops.delivery.terms import Terms
from platformops.errors import InvalidTransition
from platformops.machine import advance

S = RolloutState
STABLE = Revision("img", 1, 1, "a1", "d1", 1, 1, {}, "img", "e1", "x1", ("cat", "dog"))
CANDIDATE = replace(STABLE, number=2, version=2, artifact="a2")
NOW = 1000.0


def rollout(state=S.PENDING, **changed):
    given = {
        "system": "img", "number": 2, "candidate": CANDIDATE, "stable": STABLE, "state": state, "step": 0,
        "steps": ("100%",), "conditions": {"accuracy": ">= 0.9"}, "gates": (), "reason": "", "started_at": NOW,
        "changed_at": NOW, **changed,
    }  # fmt: skip
    return Rollout(**given)


def seen(state=RevisionState.READY, reason="", **changed):
    return Evidence(RevisionStatus(state, reason=reason), **changed)


def good_replay(**changed):
    return Replay(**{"asked": 1, "answered": 1, "latencies_ms": (5.0,), "parity": ParityReport(1, 0.0, "r"), **changed})


@pytest.mark.parametrize("state", RolloutState)
@pytest.mark.parametrize("event", RolloutEvent)
def test_every_pair_is_in_the_table_or_refused_with_what_is_accepted(state, event):
    if (state, event) in ROLLOUT:
        assert advance(ROLLOUT, state, event, subject="rollout img") is ROLLOUT[state, event]
    else:
        with pytest.raises(InvalidTransition, match="rollout img is"):
            advance(ROLLOUT, state, event, subject="rollout img")


def test_the_terminal_states_are_those_that_end_a_release():
    assert {S.PROMOTED, S.REFUSED, S.ROLLED_BACK, S.ABORTED} == TERMINAL
    assert all(not is_running(rollout(state)) for state in TERMINAL)


def test_a_pending_rollout_asks_for_its_evaluation_and_deploys_nothing():
    decided = decide(rollout(), seen(RevisionState.ABSENT), NOW + 1)
    assert decided.rollout == rollout()
    assert decided.actions == (Examine(ExaminationKind.OFFLINE, rollout()),)


def test_a_candidate_below_its_limit_is_refused_before_it_is_deployed():
    decided = decide(rollout(), seen(RevisionState.ABSENT, evaluation=Evaluation({"accuracy": 0.8})), NOW + 1)
    assert decided.rollout.state is S.REFUSED
    assert decided.rollout.reason == "accuracy 0.8 is 0.1 below the limit 0.9"
    assert decided.actions == ()
    assert weights(decided.rollout) == {"img-r1": 100.0}


def test_a_good_evaluation_leads_to_deployment():
    decided = decide(rollout(), seen(RevisionState.ABSENT, evaluation=Evaluation({"accuracy": 0.95})), NOW + 1)
    assert decided.rollout.state is S.DEPLOYING
    after = decide(decided.rollout, seen(RevisionState.ABSENT), NOW + 2)
    assert after.actions == (DeployRevision(CANDIDATE),)


def test_a_starting_candidate_is_waited_for_and_not_deployed_twice():
    decided = decide(rollout(S.DEPLOYING), seen(RevisionState.STARTING), NOW + 5)
    assert decided.rollout.state is S.DEPLOYING
    assert decided.actions == ()


def test_a_candidate_that_cannot_start_is_refused_with_its_reason():
    decided = decide(rollout(S.DEPLOYING), seen(RevisionState.FAILED, "ImportError: no torch"), NOW + 5)
    assert decided.rollout.state is S.REFUSED
    assert "ImportError: no torch" in decided.rollout.reason
    assert not decided.rollout.gates[-1].passed


@pytest.mark.parametrize("state", [S.PENDING, S.DEPLOYING, S.VERIFYING])
def test_waiting_ends_at_the_deadline(state):
    late = NOW + DEADLINE_S[state] + 1
    assert decide(rollout(state), seen(RevisionState.STARTING), late - 2).rollout.state is state
    decided = decide(rollout(state), seen(RevisionState.STARTING), late)
    assert decided.rollout.state is S.REFUSED
    assert "starting" in decided.rollout.reason


def test_time_that_nobody_watched_does_not_count_against_a_deadline():
    back = NOW + 10 * DEADLINE_S[S.DEPLOYING]
    decided = decide(rollout(S.DEPLOYING), seen(RevisionState.ABSENT, watched_since=back), back + 1)
    assert decided.rollout.state is S.DEPLOYING
    assert decided.actions == (DeployRevision(CANDIDATE),)


def test_a_ready_candidate_is_verified_through_its_endpoint():
    verifying = decide(rollout(S.DEPLOYING), seen(), NOW + 5).rollout
    assert verifying.state is S.VERIFYING
    asked = decide(verifying, seen(), NOW + 6).actions
    assert asked == (Examine(ExaminationKind.ENDPOINT, verifying),)
    passed = decide(verifying, seen(replay=good_replay()), NOW + 7).rollout
    assert passed.state is S.SHIFTING
    assert [g.name for g in passed.gates] == ["servable", "parity"]


def test_a_candidate_that_vanished_while_verified_is_deployed_again():
    decided = decide(rollout(S.VERIFYING), seen(RevisionState.ABSENT), NOW + 5)
    assert decided.actions == (DeployRevision(CANDIDATE),)


def test_a_candidate_that_answers_otherwise_than_offline_is_refused():
    wrong = good_replay(parity=ParityReport(64, 0.3, "row 9"))
    decided = decide(rollout(S.VERIFYING), seen(replay=wrong), NOW + 5)
    assert decided.rollout.state is S.REFUSED
    assert "row 9" in decided.rollout.reason


def test_traffic_moves_only_in_shifting_and_promotion_waits_for_the_router():
    shifting = rollout(S.SHIFTING)
    assert weights(rollout(S.VERIFYING)) == {"img-r1": 100.0}
    assert weights(shifting) == {"img-r2": 100.0}
    assert decide(shifting, seen(routed=False), NOW + 1).rollout.state is S.SHIFTING
    promoted = decide(shifting, seen(routed=True), NOW + 1).rollout
    assert promoted.state is S.PROMOTED
    assert weights(promoted) == {"img-r2": 100.0}


@pytest.mark.parametrize(
    "evidence", [seen(RevisionState.FAILED, "crash loop", routed=True), seen(routed=False)], ids=["died", "no router"]
)
def test_harm_while_shifting_gives_the_traffic_back(evidence):
    decided = decide(rollout(S.SHIFTING), evidence, NOW + DEADLINE_S[S.SHIFTING] + 1)
    assert decided.rollout.state is S.ROLLED_BACK
    assert weights(decided.rollout) == {"img-r1": 100.0}


@pytest.mark.parametrize(
    ("state", "ends"),
    [(S.PENDING, S.ABORTED), (S.DEPLOYING, S.ABORTED), (S.VERIFYING, S.ABORTED), (S.SHIFTING, S.ROLLED_BACK)],
)
def test_a_running_rollout_can_be_aborted_in_every_state(state, ends):
    decided = decide(rollout(state), seen(abort="the system is to be down"), NOW + 1)
    assert decided.rollout.state is ends
    assert decided.rollout.reason == "the system is to be down"


STEPS = ("shadow", "10%", "100%")


@pytest.mark.parametrize(
    ("state", "step", "share", "copied"),
    [
        (S.VERIFYING, 0, 0, ""),
        (S.AWAITING, 0, 0, ""),
        (S.SHIFTING, 0, 0, "img-r2"),
        (S.SHIFTING, 1, 10, ""),
        (S.PAUSED, 0, 0, "img-r2"),
        (S.PAUSED, 1, 10, ""),
        (S.SHIFTING, 2, 100, ""),
        (S.HALTED, 1, 0, ""),
        (S.PROMOTED, 2, 100, ""),
        (S.ROLLED_BACK, 1, 0, ""),
    ],
)
def test_the_traffic_of_a_state_is_that_of_its_step(state, step, share, copied):
    given = rollout(state, steps=STEPS, step=step)
    assert weights(given) == {name: w for name, w in (("img-r1", 100.0 - share), ("img-r2", float(share))) if w}
    assert sum(weights(given).values()) == 100
    assert shadow(given) == copied


def test_without_a_shadow_step_nothing_is_copied():
    assert shadow(rollout(S.SHIFTING, steps=("10%", "100%"))) == ""


def test_a_step_bakes_from_when_the_router_follows_it():
    shifting = rollout(S.SHIFTING, steps=STEPS)
    assert decide(shifting, seen(routed=False), NOW + 5).rollout.routed_at is None
    assert decide(shifting, seen(routed=True), NOW + 9).rollout == replace(shifting, routed_at=NOW + 9)


def test_a_candidate_that_needs_approval_waits_for_one_of_those_named():
    named = rollout(S.VERIFYING, terms=Terms(approvers=("ada",)))
    waiting = decide(named, seen(replay=good_replay()), NOW + 1).rollout
    assert waiting.state is S.AWAITING
    assert "ada must approve" in waiting.reason
    assert decide(waiting, seen(), NOW + 50).rollout == waiting
    stranger = replace(waiting, approvals=(Approval("eve", NOW, "traffic"),))
    assert decide(stranger, seen(), NOW + 50).rollout.state is S.AWAITING
    approved = replace(waiting, approvals=(Approval("ada", NOW, "traffic"),))
    assert decide(approved, seen(), NOW + 50).rollout.state is S.SHIFTING
    assert decide(waiting, seen(), NOW + 2 + waiting.terms.patience_s).rollout.state is S.ABORTED
    assert decide(waiting, seen(RevisionState.FAILED, "boom"), NOW + 50).rollout.state is S.REFUSED


def test_a_halted_rollout_ends_when_nobody_looks_at_it():
    halted = rollout(S.HALTED, steps=STEPS)
    assert decide(halted, seen(), NOW + 100).rollout == halted
    assert decide(halted, seen(), NOW + 1 + halted.terms.patience_s).rollout.state is S.ROLLED_BACK


def test_a_rollback_is_neither_examined_nor_judged_again():
    back = rollout(S.DEPLOYING, kind=RolloutKind.ROLLBACK)
    verifying = decide(back, seen(), NOW + 1).rollout
    assert examination(verifying) is None
    shifting = decide(verifying, seen(), NOW + 1).rollout
    assert decide(shifting, seen(routed=True), NOW + 1).rollout.state is S.PROMOTED


def test_a_rollout_survives_as_a_document():
    given = rollout(
        S.PAUSED, steps=STEPS, step=1, kind=RolloutKind.ROLLBACK, terms=Terms(0.01, approvers=("ada",)),
        expected_disagreement=0.03, routed_at=NOW, approvals=(Approval("ada", NOW, "evidence"),), node="n2",
    )  # fmt: skip
    assert rollout_from(json.loads(json.dumps(rollout_json(given)))) == given


@pytest.mark.parametrize("state", sorted(TERMINAL, key=str))
def test_a_finished_rollout_is_left_alone(state):
    decided = decide(rollout(state), seen(RevisionState.FAILED, abort="now"), NOW + 10_000)
    assert decided.rollout == rollout(state)
    assert decided.actions == ()


def test_before_the_first_stable_nothing_has_traffic_until_shifting():
    assert weights(rollout(S.VERIFYING, stable=None)) == {}
    assert weights(rollout(S.REFUSED, stable=None)) == {}
    assert weights(rollout(S.PROMOTED, stable=None)) == {"img-r2": 100.0}


def test_each_state_asks_for_its_own_evidence():
    kinds = {s: (e.kind if (e := examination(rollout(s))) else None) for s in RolloutState}
    assert kinds[S.PENDING] is ExaminationKind.OFFLINE
    assert kinds[S.VERIFYING] is ExaminationKind.ENDPOINT
    assert {kinds[s] for s in TERMINAL} == {None}
