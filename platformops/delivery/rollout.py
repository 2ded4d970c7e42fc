"""The rollout's state machine: what one move of traffic does next, given the evidence at this instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from platformops.delivery import baking, gate
from platformops.delivery.records import (
    Action,
    DeployRevision,
    Evidence,
    ExaminationKind,
    Examine,
    GateResult,
    RevisionState,
    Rollout,
    RolloutEvent,
    RolloutKind,
    RolloutState,
)
from platformops.machine import advance, terminal
from platformops.spec.conditions import SHADOW, release_weights

S, E = RolloutState, RolloutEvent

ROLLOUT: Mapping[tuple[RolloutState, RolloutEvent], RolloutState] = {
    (S.PENDING, E.GATE_PASSED): S.DEPLOYING,
    (S.PENDING, E.GATE_FAILED): S.REFUSED,
    (S.PENDING, E.ABORT): S.ABORTED,
    (S.DEPLOYING, E.DEPLOYED): S.VERIFYING,
    (S.DEPLOYING, E.GATE_FAILED): S.REFUSED,
    (S.DEPLOYING, E.ABORT): S.ABORTED,
    (S.VERIFYING, E.GATE_PASSED): S.SHIFTING,
    (S.VERIFYING, E.GATE_FAILED): S.REFUSED,
    (S.VERIFYING, E.APPROVAL_NEEDED): S.AWAITING,
    (S.VERIFYING, E.ABORT): S.ABORTED,
    (S.AWAITING, E.APPROVED): S.SHIFTING,
    (S.AWAITING, E.GATE_FAILED): S.REFUSED,
    (S.AWAITING, E.ABORT): S.ABORTED,
    (S.SHIFTING, E.STEP_PASSED): S.SHIFTING,
    (S.SHIFTING, E.COMPLETED): S.PROMOTED,
    (S.SHIFTING, E.HARMED): S.ROLLED_BACK,
    (S.SHIFTING, E.HALT): S.HALTED,
    (S.SHIFTING, E.UNPROVEN): S.ROLLED_BACK,
    (S.SHIFTING, E.PAUSE): S.PAUSED,
    (S.SHIFTING, E.ABORT): S.ROLLED_BACK,
    (S.PAUSED, E.RESUME): S.SHIFTING,
    (S.PAUSED, E.HARMED): S.ROLLED_BACK,
    (S.PAUSED, E.HALT): S.HALTED,
    (S.PAUSED, E.ABORT): S.ROLLED_BACK,
    (S.HALTED, E.RESUME): S.SHIFTING,
    (S.HALTED, E.ABORT): S.ROLLED_BACK,
}
TERMINAL = terminal(ROLLOUT)
_EXAMINED = {S.PENDING: ExaminationKind.OFFLINE, S.VERIFYING: ExaminationKind.ENDPOINT}
DEPLOYED = frozenset({S.DEPLOYING, S.VERIFYING, S.AWAITING, S.SHIFTING, S.PAUSED, S.HALTED})
"""States in which the candidate runs beside stable."""
SPLIT = frozenset({S.SHIFTING, S.PAUSED})
"""States in which the candidate has the traffic of its step."""

DEADLINE_S: Mapping[RolloutState, float] = {
    S.PENDING: 600.0,  # reading two evaluations and 2,000 resamples takes seconds; a lost object store, for ever
    S.DEPLOYING: 300.0,  # a replica that imports torch on a loaded 2-core machine was seen to need 45 s
    S.VERIFYING: 300.0,  # the replay limits itself to half a minute
    S.SHIFTING: 120.0,  # a router that does not take a route in this time is not there
}


@dataclass(frozen=True, slots=True)
class Decided:
    """A rollout's next state and what must be so in it."""

    rollout: Rollout
    actions: tuple[Action, ...] = ()


def is_running(rollout: Rollout | None) -> bool:
    return rollout is not None and rollout.state not in TERMINAL


def decide(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """At most one move of `rollout`; the same evidence gives the same answer. A terminal rollout is left alone."""
    if rollout.state in TERMINAL:
        return Decided(rollout)
    if evidence.abort:
        return Decided(moved(rollout, E.ABORT, evidence.abort, now))
    return _DECIDE[rollout.state](rollout, evidence, now)


def examination(rollout: Rollout | None) -> Examine | None:
    """The evidence that the rollout's state asks for; a rollback is examined no more."""
    if rollout is None or rollout.kind is RolloutKind.ROLLBACK:
        return None
    kind = _EXAMINED.get(rollout.state)
    return Examine(kind, rollout) if kind else None


def weights(rollout: Rollout) -> Mapping[str, float]:
    """Percent of traffic by revision name in the rollout's state; empty while no revision may have any."""
    share = 0.0
    if rollout.state is S.PROMOTED:
        share = 100.0
    elif rollout.state in SPLIT:
        share = release_weights(rollout.steps)[rollout.step]
    given = {rollout.stable.name: 100.0 - share} if rollout.stable else {}
    return {name: percent for name, percent in {**given, rollout.candidate.name: share}.items() if percent}


def shadow(rollout: Rollout) -> str:
    """The revision that gets copies of requests: the candidate at the step `shadow`. Later its own users show how it
    does, and copies would only slow everybody."""
    is_copied = rollout.state in SPLIT and rollout.steps[rollout.step] == SHADOW
    return rollout.candidate.name if is_copied and rollout.stable else ""


def moved(rollout: Rollout, event: RolloutEvent, reason: str, now: float) -> Rollout:
    """The rollout after `event`; raises InvalidTransition where its state does not take that."""
    state = advance(ROLLOUT, rollout.state, event, subject=f"rollout {rollout.name}")
    return replace(rollout, state=state, reason=reason, changed_at=now, routed_at=None)


def _pending(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """Gates on figures come before anything is deployed: they cost no memory on the machines that serve."""
    if evidence.evaluation is None:
        return _wait(rollout, evidence, now, "evaluation", *_examine(rollout))
    known = replace(rollout, expected_disagreement=evidence.evaluation.disagreement)
    return _judge(known, gate.judge_offline(rollout.conditions, evidence.evaluation), now, "may be deployed")


def _deploying(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    seen, name = evidence.candidate, rollout.candidate.name
    if seen.state is RevisionState.READY:
        return Decided(moved(rollout, E.DEPLOYED, f"{name} is ready", now))
    if seen.state is RevisionState.FAILED:
        return _refuse(rollout, "deploy", f"{name} cannot start: {seen.reason}", now)
    return _wait(rollout, evidence, now, "deploy", *_deployment(rollout, evidence))


def _verifying(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    seen, name = evidence.candidate, rollout.candidate.name
    if rollout.kind is RolloutKind.ROLLBACK:
        return Decided(moved(rollout, E.GATE_PASSED, f"{name} was stable before and is not judged again", now))
    if evidence.replay is not None:
        results = gate.judge_endpoint(rollout.conditions, evidence.replay, rollout.terms.latency_margin)
        return _judge(rollout, results, now, "may have traffic")
    if seen.state is RevisionState.FAILED:
        return _refuse(rollout, "servable", f"{name} died while it was verified: {seen.reason}", now)
    examine = _examine(rollout) if seen.state is RevisionState.READY else ()
    return _wait(rollout, evidence, now, "servable", *_deployment(rollout, evidence), *examine)


def _awaiting(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """A person of those that the spec names must let the candidate have traffic."""
    approved = next((a for a in rollout.approvals if a.who in rollout.terms.approvers), None)
    if approved:
        return Decided(moved(rollout, E.APPROVED, f"approved by {approved.who}", now))
    if evidence.candidate.state is RevisionState.FAILED:
        return _refuse(rollout, "servable", f"{rollout.candidate.name} died: {evidence.candidate.reason}", now)
    if now - rollout.changed_at > rollout.terms.patience_s:
        names = ", ".join(rollout.terms.approvers)
        return Decided(moved(rollout, E.ABORT, f"nobody of {names} approved it in time", now))
    return Decided(rollout, _deployment(rollout, evidence))


def _shifting(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """The candidate has the weight of its step, and passes to the next when it is known to do no harm."""
    seen, name = evidence.candidate, rollout.candidate.name
    if seen.state is RevisionState.FAILED:
        return Decided(_harmed(rollout, f"{name} died as it took traffic: {seen.reason}", now))
    judgement = baking.judged(rollout, evidence.ledger)
    if (found := baking.harm(rollout, evidence.ledger, judgement)) is not None:
        return Decided(_harmed(found, found.reason, now))
    is_ready = seen.state is RevisionState.READY
    if rollout.step == len(rollout.steps) - 1 and evidence.routed and is_ready:
        return Decided(moved(rollout, E.COMPLETED, _promoted_because(rollout), now))
    if rollout.routed_at is None and _is_late(rollout, evidence, now):
        missing = "the router took no new route" if not evidence.routed else f"{name} was {seen.state.value}"
        return Decided(_harmed(rollout, f"{missing} within {DEADLINE_S[rollout.state]:g} s", now))
    if not evidence.routed or not is_ready:
        return Decided(rollout, _deployment(rollout, evidence))
    if rollout.routed_at is None:
        return Decided(replace(rollout, routed_at=now))
    outcome = baking.outcome(rollout, evidence.ledger, judgement, now)
    return Decided(_stepped(rollout, outcome, now) if outcome else rollout)


def _stepped(rollout: Rollout, outcome: baking.Outcome, now: float) -> Rollout:
    judged = replace(rollout, gates=(*baking.kept(rollout), *outcome.results))
    is_last = rollout.step == len(rollout.steps) - 2
    if outcome.event is E.STEP_PASSED and is_last and rollout.kind is RolloutKind.DRILL:
        return moved(judged, E.ABORT, f"no gate and no guard stopped it: {outcome.reason}", now)
    if outcome.event is E.STEP_PASSED:
        judged = replace(judged, step=rollout.step + 1)
    return moved(judged, outcome.event, outcome.reason, now)


def _paused(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """A person stopped the climb; what protects users goes on."""
    if evidence.candidate.state is RevisionState.FAILED:
        reason = f"{rollout.candidate.name} died as it took traffic: {evidence.candidate.reason}"
        return Decided(_harmed(rollout, reason, now))
    judgement = baking.judged(rollout, evidence.ledger)
    if (found := baking.harm(rollout, evidence.ledger, judgement)) is not None:
        return Decided(_harmed(found, found.reason, now))
    return Decided(rollout, _deployment(rollout, evidence))


def _halted(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """The candidate runs without traffic, to be looked at, until a person ends or resumes it."""
    if now - rollout.changed_at > rollout.terms.patience_s:
        return Decided(moved(rollout, E.ABORT, f"{rollout.reason}; nobody resumed it in time", now))
    return Decided(rollout)


_DECIDE = {
    S.PENDING: _pending,
    S.DEPLOYING: _deploying,
    S.VERIFYING: _verifying,
    S.AWAITING: _awaiting,
    S.SHIFTING: _shifting,
    S.PAUSED: _paused,
    S.HALTED: _halted,
}


def _deployment(rollout: Rollout, evidence: Evidence) -> tuple[Action, ...]:
    return (DeployRevision(rollout.candidate),) if evidence.candidate.state is RevisionState.ABSENT else ()


def _examine(rollout: Rollout) -> tuple[Action, ...]:
    wanted = examination(rollout)
    return (wanted,) if wanted else ()


def _judge(rollout: Rollout, results: tuple[GateResult, ...], now: float, gained: str) -> Decided:
    judged = replace(rollout, gates=(*rollout.gates, *results))
    if missed := gate.failed(results):
        return Decided(moved(judged, E.GATE_FAILED, "; ".join(r.reason for r in missed), now))
    names = ", ".join(r.name for r in results) or "none"
    reason = f"{rollout.candidate.name} {gained}; gates passed: {names}"
    if rollout.state is S.VERIFYING and rollout.terms.approvers:
        reason = f"{reason}; one of {', '.join(rollout.terms.approvers)} must approve"
        return Decided(moved(judged, E.APPROVAL_NEEDED, reason, now))
    return Decided(moved(judged, E.GATE_PASSED, reason, now))


def _harmed(rollout: Rollout, reason: str, now: float) -> Rollout:
    """All traffic is back on stable; whether the candidate goes on running is the spec's choice."""
    is_halted = rollout.terms.halts and rollout.stable is not None
    return moved(rollout, E.HALT if is_halted else E.HARMED, reason, now)


def _refuse(rollout: Rollout, name: str, reason: str, now: float) -> Decided:
    result = GateResult(name, passed=False, reason=reason, would_change="a revision that starts and stays up")
    return Decided(moved(replace(rollout, gates=(*rollout.gates, result)), E.GATE_FAILED, reason, now))


def _wait(rollout: Rollout, evidence: Evidence, now: float, name: str, *actions: Action) -> Decided:
    if not _is_late(rollout, evidence, now):
        return Decided(rollout, actions)
    limit, seen = DEADLINE_S[rollout.state], evidence.candidate
    said = f"; last seen {seen.state.value}{f': {seen.reason}' if seen.reason else ''}"
    return _refuse(rollout, name, f"{rollout.candidate.name} was {rollout.state.value} for {limit:g} s{said}", now)


def _is_late(rollout: Rollout, evidence: Evidence, now: float) -> bool:
    return now - max(rollout.changed_at, evidence.watched_since) > DEADLINE_S[rollout.state]


def _promoted_because(rollout: Rollout) -> str:
    passed = ", ".join(r.name for r in rollout.gates if r.passed) or "none"
    said = f"{rollout.candidate.name} ({rollout.candidate.version_name}) has all traffic; gates passed: {passed}"
    approvers = ", ".join(dict.fromkeys(a.who for a in rollout.approvals))
    return f"{said}; approved by {approvers}" if approvers else said
