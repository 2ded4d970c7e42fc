"""The rollout's state machine: what one move of traffic does next, given the evidence at this instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from platformops.delivery import gate
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
    RolloutState,
)
from platformops.machine import advance, terminal

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
    (S.VERIFYING, E.ABORT): S.ABORTED,
    (S.SHIFTING, E.STEP_PASSED): S.SHIFTING,
    (S.SHIFTING, E.COMPLETED): S.PROMOTED,
    (S.SHIFTING, E.HARMED): S.ROLLED_BACK,
    (S.SHIFTING, E.ABORT): S.ROLLED_BACK,
}
TERMINAL = terminal(ROLLOUT)
_EXAMINED = {S.PENDING: ExaminationKind.OFFLINE, S.VERIFYING: ExaminationKind.ENDPOINT}
DEPLOYED = frozenset({S.DEPLOYING, S.VERIFYING, S.SHIFTING})
"""States in which the candidate runs beside stable."""

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
        return _move(rollout, E.ABORT, evidence.abort, now)
    return _DECIDE[rollout.state](rollout, evidence, now)


def examination(rollout: Rollout | None) -> Examine | None:
    """The evidence that the rollout's state asks for."""
    kind = _EXAMINED.get(rollout.state) if rollout else None
    return Examine(kind, rollout) if kind and rollout else None


def weights(rollout: Rollout) -> Mapping[str, float]:
    """Percent of traffic by revision name in the rollout's state; empty while no revision may have any."""
    if rollout.state in (S.SHIFTING, S.PROMOTED):
        return {rollout.candidate.name: 100.0}
    return {rollout.stable.name: 100.0} if rollout.stable else {}


def _pending(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """Gates on figures come before anything is deployed: they cost no memory on the machines that serve."""
    if evidence.evaluation is None:
        return _wait(rollout, evidence, now, "evaluation", *_examine(rollout))
    return _judge(rollout, gate.judge_offline(rollout.conditions, evidence.evaluation), now, "may be deployed")


def _deploying(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    seen, name = evidence.candidate, rollout.candidate.name
    if seen.state is RevisionState.READY:
        return _move(rollout, E.DEPLOYED, f"{name} is ready", now)
    if seen.state is RevisionState.FAILED:
        return _refuse(rollout, "deploy", f"{name} cannot start: {seen.reason}", now)
    return _wait(rollout, evidence, now, "deploy", *_deployment(rollout, evidence))


def _verifying(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    seen, name = evidence.candidate, rollout.candidate.name
    if evidence.replay is not None:
        return _judge(rollout, gate.judge_endpoint(rollout.conditions, evidence.replay), now, "may have traffic")
    if seen.state is RevisionState.FAILED:
        return _refuse(rollout, "servable", f"{name} died while it was verified: {seen.reason}", now)
    examine = _examine(rollout) if seen.state is RevisionState.READY else ()
    return _wait(rollout, evidence, now, "servable", *_deployment(rollout, evidence), *examine)


def _shifting(rollout: Rollout, evidence: Evidence, now: float) -> Decided:
    """The candidate has the weight of the last step; it is promoted once the router is seen to follow."""
    seen, name = evidence.candidate, rollout.candidate.name
    if seen.state is RevisionState.FAILED:
        return _move(rollout, E.HARMED, f"{name} died as it took traffic: {seen.reason}", now)
    if evidence.routed and seen.state is RevisionState.READY:
        last = replace(rollout, step=len(rollout.steps) - 1)
        return _move(last, E.COMPLETED, _promoted_because(rollout), now)
    if _is_late(rollout, evidence, now):
        missing = "the router took no new route" if not evidence.routed else f"{name} was {seen.state.value}"
        return _move(rollout, E.HARMED, f"{missing} within {DEADLINE_S[rollout.state]:g} s", now)
    return Decided(rollout, _deployment(rollout, evidence))


_DECIDE = {S.PENDING: _pending, S.DEPLOYING: _deploying, S.VERIFYING: _verifying, S.SHIFTING: _shifting}


def _deployment(rollout: Rollout, evidence: Evidence) -> tuple[Action, ...]:
    return (DeployRevision(rollout.candidate),) if evidence.candidate.state is RevisionState.ABSENT else ()


def _examine(rollout: Rollout) -> tuple[Action, ...]:
    wanted = examination(rollout)
    return (wanted,) if wanted else ()


def _judge(rollout: Rollout, results: tuple[GateResult, ...], now: float, gained: str) -> Decided:
    judged = replace(rollout, gates=(*rollout.gates, *results))
    if missed := gate.failed(results):
        return _move(judged, E.GATE_FAILED, "; ".join(r.reason for r in missed), now)
    names = ", ".join(r.name for r in results) or "none"
    return _move(judged, E.GATE_PASSED, f"{rollout.candidate.name} {gained}; gates passed: {names}", now)


def _refuse(rollout: Rollout, name: str, reason: str, now: float) -> Decided:
    result = GateResult(name, passed=False, reason=reason, would_change="a revision that starts and stays up")
    return _move(replace(rollout, gates=(*rollout.gates, result)), E.GATE_FAILED, reason, now)


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
    return f"{rollout.candidate.name} ({rollout.candidate.version_name}) has all traffic; gates passed: {passed}"


def _move(rollout: Rollout, event: RolloutEvent, reason: str, now: float) -> Decided:
    state = advance(ROLLOUT, rollout.state, event, subject=f"rollout {rollout.name}")
    return Decided(replace(rollout, state=state, reason=reason, changed_at=now))
