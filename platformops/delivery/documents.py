"""Delivery's records as JSON documents and back, field by field, so that a renamed field is a visible change here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from platformops.delivery.decisions import gate_json
from platformops.delivery.records import (
    Approval,
    GateResult,
    Planted,
    Revision,
    Rollout,
    RolloutKind,
    RolloutState,
    Route,
    System,
)
from platformops.delivery.terms import terms_from, terms_json
from platformops.errors import StoreError
from platformops.store.records import Json, JsonObject


def revision_json(revision: Revision) -> JsonObject:
    return {
        "system": revision.system,
        "number": revision.number,
        "version": revision.version,
        "artifact": revision.artifact,
        "manifest_digest": revision.manifest_digest,
        "replicas_min": revision.replicas_min,
        "replicas_max": revision.replicas_max,
        "options": revision.options,
        "model": revision.model,
        "evaluation": revision.evaluation,
        "evaluation_digest": revision.evaluation_digest,
        "classes": list(revision.classes),
        **({"planted": {"defect": planted.defect, "size": planted.size}} if (planted := revision.planted) else {}),
    }


def revision_from(value: Json) -> Revision:
    doc = _object(value, "revision")
    return Revision(
        system=_text(doc, "system"),
        number=_integer(doc, "number"),
        version=_integer(doc, "version"),
        artifact=_text(doc, "artifact"),
        manifest_digest=_text(doc, "manifest_digest"),
        replicas_min=_integer(doc, "replicas_min"),
        replicas_max=_integer(doc, "replicas_max"),
        options=_object(doc.get("options", {}), "options"),
        model=_text(doc, "model"),
        evaluation=_text(doc, "evaluation"),
        evaluation_digest=_text(doc, "evaluation_digest"),
        classes=_texts(doc, "classes"),
        planted=_planted_from(doc["planted"]) if "planted" in doc else None,
    )


def _planted_from(value: Json) -> Planted:
    doc = _object(value, "planted")
    return Planted(_text(doc, "defect"), _number(doc, "size"))


def system_json(system: System) -> JsonObject:
    route = system.route
    return {
        "name": system.name,
        "stable": revision_json(system.stable) if system.stable else None,
        "route": route_json(route) if route else None,
        "serve": system.serve,
        "classes": list(system.classes),
        "wanted": system.wanted,
    }


def system_from(doc: JsonObject) -> System:
    name, stable, route = _text(doc, "name"), doc.get("stable"), doc.get("route")
    return System(
        name=name,
        stable=revision_from(stable) if stable is not None else None,
        route=_route_from(name, route) if route is not None else None,
        serve=_object(doc.get("serve", {}), "serve"),
        classes=_texts(doc, "classes"),
        wanted=_text(doc, "wanted"),
    )


def route_json(route: Route) -> JsonObject:
    return {"weights": dict(route.weights), "token": route.token, "shadow": route.shadow}


def _route_from(system: str, value: Json) -> Route:
    doc = _object(value, "route")
    weights = _object(doc.get("weights"), "weights")
    shadow = str(doc.get("shadow", ""))
    return Route(system, {name: _number(weights, name) for name in weights}, _integer(doc, "token"), shadow)


def rollout_json(rollout: Rollout) -> JsonObject:
    return {
        "system": rollout.system,
        "number": rollout.number,
        "candidate": revision_json(rollout.candidate),
        "stable": revision_json(rollout.stable) if rollout.stable else None,
        "state": rollout.state.value,
        "step": rollout.step,
        "steps": list(rollout.steps),
        "conditions": dict(rollout.conditions),
        "gates": [gate_json(g) for g in rollout.gates],
        "reason": rollout.reason,
        "started_at": rollout.started_at,
        "changed_at": rollout.changed_at,
        "kind": rollout.kind.value,
        "terms": terms_json(rollout.terms),
        "expected_disagreement": rollout.expected_disagreement,
        "routed_at": rollout.routed_at,
        "approvals": [{"who": a.who, "at": a.at, "of": a.of} for a in rollout.approvals],
        "node": rollout.node,
    }


def rollout_from(doc: JsonObject) -> Rollout:
    stable, conditions = doc.get("stable"), _object(doc.get("conditions"), "conditions")
    return Rollout(
        system=_text(doc, "system"),
        number=_integer(doc, "number"),
        candidate=revision_from(doc.get("candidate")),
        stable=revision_from(stable) if stable is not None else None,
        state=RolloutState(_text(doc, "state")),
        step=_integer(doc, "step"),
        steps=_texts(doc, "steps"),
        conditions={name: _text(conditions, name) for name in conditions},
        gates=tuple(_gate_from(g) for g in _list(doc, "gates")),
        reason=_text(doc, "reason"),
        started_at=_number(doc, "started_at"),
        changed_at=_number(doc, "changed_at"),
        kind=RolloutKind(str(doc.get("kind", "release"))),
        terms=terms_from(_object(doc.get("terms", {}), "terms")),
        expected_disagreement=_optional(doc, "expected_disagreement"),
        routed_at=_optional(doc, "routed_at"),
        approvals=tuple(_approval_from(a) for a in _list(doc, "approvals")) if "approvals" in doc else (),
        node=str(doc.get("node", "")),
    )


def _approval_from(value: Json) -> Approval:
    doc = _object(value, "approval")
    return Approval(_text(doc, "who"), _number(doc, "at"), _text(doc, "of"))


def _gate_from(value: Json) -> GateResult:
    doc = _object(value, "gate")
    evidence = _object(doc.get("evidence", {}), "evidence")
    return GateResult(
        _text(doc, "name"), doc.get("passed") is True, _text(doc, "reason"), evidence, _text(doc, "would_change")
    )


def _wrong(what: str, value: Json) -> StoreError:
    return StoreError(
        f"a stored record has {value!r:.60} where {what} belongs",
        remedy="it was written by another version of platformops, or changed by hand",
    )


def _object(value: Json, what: str) -> JsonObject:
    if not isinstance(value, Mapping):
        raise _wrong(f"the object {what!r}", value)
    return value


def _text(doc: JsonObject, name: str) -> str:
    value = doc.get(name)
    if not isinstance(value, str):
        raise _wrong(f"the text {name!r}", value)
    return value


def _number(doc: JsonObject, name: str) -> float:
    value = doc.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"the number {name!r}", value)
    return float(value)


def _optional(doc: JsonObject, name: str) -> float | None:
    return None if doc.get(name) is None else _number(doc, name)


def _integer(doc: JsonObject, name: str) -> int:
    value = doc.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(f"the integer {name!r}", value)
    return value


def _list(doc: JsonObject, name: str) -> Sequence[Json]:
    value = doc.get(name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong(f"the list {name!r}", value)
    return value


def _texts(doc: JsonObject, name: str) -> tuple[str, ...]:
    values = _list(doc, name)
    if not all(isinstance(v, str) for v in values):
        raise _wrong(f"the list of texts {name!r}", values)
    return tuple(str(v) for v in values)
