"""Decisions as records: what a rollout's move is called, and which subjects are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from platformops.delivery.records import Decision, GateResult, Rollout, RolloutKind, RolloutState
from platformops.store.records import ABSENT, Json, JsonObject, Put, Store, numbered

_SAID: Mapping[RolloutState, str] = {
    RolloutState.PENDING: "asked for",
    RolloutState.DEPLOYING: "deploying",
    RolloutState.VERIFYING: "verifying",
    RolloutState.AWAITING: "waiting for approval of",
    RolloutState.SHIFTING: "shifting traffic to",
    RolloutState.PAUSED: "paused",
    RolloutState.HALTED: "took all traffic from",
    RolloutState.PROMOTED: "promoted",
    RolloutState.REFUSED: "refused",
    RolloutState.ROLLED_BACK: "rolled back",
    RolloutState.ABORTED: "aborted",
}


def subjects(rollout: Rollout) -> tuple[str, ...]:
    """The names under which `why` finds a rollout's decisions: its system, its model version, itself. A drill says
    nothing of the system or the version."""
    if rollout.kind is RolloutKind.DRILL:
        return (rollout.name,)
    return (rollout.system, rollout.candidate.version_name, rollout.name)


def decisions_on(rollout: Rollout, now: float) -> tuple[Decision, ...]:
    """The move that `rollout` has just made, once for each subject."""
    candidate = rollout.candidate
    step = f", step {rollout.steps[rollout.step]}" if rollout.state is RolloutState.SHIFTING else ""
    back = {RolloutKind.ROLLBACK: "back to ", RolloutKind.DRILL: "a drill on "}.get(rollout.kind, "")
    said = f"{_SAID[rollout.state]} {back}{candidate.version_name} ({candidate.name}){step}"
    evidence = [gate_json(g) for g in rollout.gates]
    change = would_change(rollout)
    return tuple(Decision(s, said, rollout.reason, evidence, change, now) for s in subjects(rollout))


def would_change(rollout: Rollout) -> str:
    """What the failed gates missed; of a passed rollout, the gate that came nearest to its limit."""
    if missed := [g for g in rollout.gates if not g.passed]:
        return "; ".join(f"{g.name}: {g.would_change}" for g in missed if g.would_change)
    if judged := [g for g in rollout.gates if g.would_change and _nearness(g) is not None]:
        nearest = min(judged, key=lambda g: (_nearness(g) or 0.0, g.name))
        return f"nearest was {nearest.name}: {nearest.would_change} would have refused it"
    return ""


def _nearness(result: GateResult) -> float | None:
    """Distance from the limit in units of the limit; None where there is no such distance."""
    limit, judged = result.evidence.get("limit"), result.evidence.get("judged", result.evidence.get("figure"))
    if not isinstance(limit, (int, float)) or not isinstance(judged, (int, float)):
        return None
    return abs(judged - limit) / (abs(limit) or 1.0)


def gate_json(result: GateResult) -> JsonObject:
    return {
        "name": result.name, "passed": result.passed, "reason": result.reason, "evidence": dict(result.evidence),
        "would_change": result.would_change,
    }  # fmt: skip


def decision_json(decision: Decision) -> JsonObject:
    return {
        "subject": decision.subject, "decision": decision.decision, "reason": decision.reason,
        "evidence": list(decision.evidence), "would_change": decision.would_change, "decided_at": decision.decided_at,
    }  # fmt: skip


def decision_puts(store: Store, decisions: Sequence[Decision]) -> tuple[Put, ...]:
    """Writes that append each decision to its subject's; two writers of one number conflict rather than overwrite."""
    last: dict[str, int] = {}
    puts = []
    for decision in decisions:
        if decision.subject not in last:
            newest = store.scan(f"decision/{decision.subject}/", limit=1, descending=True)
            last[decision.subject] = int(newest[0].key.rsplit("/", 1)[1]) if newest else 0
        last[decision.subject] += 1
        key = f"decision/{decision.subject}/{numbered(last[decision.subject])}"
        puts.append(Put(key, decision_json(decision), expect=ABSENT))
    return tuple(puts)


def explain(store: Store, subject: str, *, limit: int | None = None) -> tuple[Decision, ...]:
    """The decisions on `subject` (`digits`, `digits:v2`, `digits:rollout-3`, a node), newest first."""
    entries = store.scan(f"decision/{subject}/", limit=limit, descending=True)
    return tuple(_decision_from(entry.value) for entry in entries)


def _decision_from(value: JsonObject) -> Decision:
    evidence = value["evidence"]
    assert isinstance(evidence, list), "written by decision_json"
    rows: list[Json] = evidence
    decided_at = value["decided_at"]
    assert isinstance(decided_at, (int, float)), "written by decision_json"
    return Decision(
        str(value["subject"]),
        str(value["decision"]),
        str(value["reason"]),
        rows,
        str(value["would_change"]),
        decided_at,
    )
