"""What the store says of the platform, as readings of gauges: releases, runs, models, the controller, nodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from platformops.observation import metrics
from platformops.observation.metrics import Metric, Reading
from platformops.pipeline.records import MOST_FIGURES
from platformops.spec.conditions import percent
from platformops.store.backup import LAST
from platformops.store.records import Entry, Json, JsonObject, Store

DRIFT_STATUS = "status/drift/"
"""Before the name of a system: the evidence of drift when its answers were looked at last."""
NODE_CHARS = 12
"""Of a node's id; as many as commands show and take."""
NEWEST_RUNS = 50
STILL_S = 60.0
"""A run that was not heard for so long does not go on any more, whatever its record says."""
NEWEST_VERSIONS = 200
MOST_METRICS = 20
"""Of a model version; a report with one figure a class would otherwise make a thousand series."""


def readings(store: Store, *, now: float) -> tuple[Reading, ...]:
    """Every gauge that comes from records. Raises StoreError."""
    return tuple(
        [
            *_systems(store.scan("system/")),
            *_rollouts(store),
            *_runs(store.scan("run/", limit=NEWEST_RUNS, descending=True), now),
            *_models(store.scan("version/", limit=NEWEST_VERSIONS, descending=True)),
            *_quality(store.scan("quality/")),
            *_controller(store.get("status/controller"), now),
            *_health(store.get("status/fleet")),
            *_backup(store.get(LAST), now),
            *_drift(store.scan("drift/")),
            *_drift_evidence(store.scan(DRIFT_STATUS)),
        ]
    )


def _systems(entries: Iterable[Entry]) -> Iterator[Reading]:
    for entry in entries:
        name, stable, route = entry.key.partition("/")[2], _object(entry.value, "stable"), _object(entry.value, "route")
        yield Reading(metrics.SYSTEM_UP, float(entry.value.get("wanted") == "up"), (name,))
        if stable:
            version = f"{stable.get('model')}:v{stable.get('version')}"
            yield Reading(metrics.REVISION_INFO, 1.0, (name, f"{name}-r{stable.get('number')}", version))
        for revision, weight in _object(route, "weights").items():
            yield from _number(metrics.ROUTE_WEIGHT, weight, name, revision)
        slo = _object(_object(entry.value, "serve"), "slo")
        p99_ms = slo.get("p99_ms", _promised("p99_ms"))
        yield Reading(metrics.SLO_P99_SECONDS, float(str(p99_ms)) / 1000, (name,))
        errors = slo.get("errors", _promised("errors"))
        yield Reading(metrics.SLO_ERROR_RATIO, percent(str(errors)), (name,))


def _promised(field: str) -> Json:
    """What the spec promises where a system says nothing."""
    from platformops.spec.types import SloSpec

    value: Json = getattr(SloSpec(), field)
    return value


def _rollouts(store: Store) -> Iterator[Reading]:
    for entry in store.scan("system/"):
        name = entry.key.partition("/")[2]
        for newest in store.scan(f"rollout/{name}/", limit=1, descending=True):
            yield Reading(metrics.ROLLOUT, 1.0, (name, str(newest.value.get("state"))))
            yield from _number(metrics.ROLLOUT_STEP, newest.value.get("step"), name)


def _runs(entries: Iterable[Entry], now: float) -> Iterator[Reading]:
    """`entries`: the newest first."""
    counts: Counter[tuple[str, str]] = Counter()
    systems: set[str] = set()
    stages: set[tuple[str, str]] = set()
    for entry in entries:
        system, state = str(entry.value.get("system")), str(entry.value.get("state"))
        counts[system, state] += 1
        beaten = entry.value.get("heartbeat_at")
        age_s = max(0.0, now - beaten) if state == "running" and isinstance(beaten, int | float) else math.inf
        if system not in systems and math.isfinite(age_s):
            yield Reading(metrics.RUN_HEARTBEAT_AGE, age_s, (system,))
        systems.add(system)
        steps = [step for step in _carried_out(entry) if age_s < STILL_S or (system, str(step["name"])) not in stages]
        for step in steps:
            stages.add((system, str(step["name"])))
            yield from _step(system, entry.key.partition("/")[2], step)
    for (system, state), count in sorted(counts.items()):
        yield Reading(metrics.RUNS, float(count), (system, state))


def _carried_out(entry: Entry) -> list[JsonObject]:
    """The steps that this very run has begun: not those that it found done, nor those that it has not come to."""
    steps = entry.value.get("steps")
    seen = [s for s in (steps if isinstance(steps, list | tuple) else ()) if isinstance(s, Mapping) and s.get("name")]
    return [dict(step) for step in seen if not step.get("cached") and (step.get("seconds") or step.get("figures"))]


def _step(system: str, run: str, step: JsonObject) -> Iterator[Reading]:
    stage = str(step["name"])
    if step.get("seconds"):
        yield from _number(metrics.STAGE_LAST_SECONDS, step["seconds"], system, run, stage)
    for name, value in sorted(_object(step, "figures").items())[:MOST_FIGURES]:
        figure, _, rank = name.partition(".rank")
        yield from _number(metrics.STAGE_FIGURE, value, system, run, stage, figure, rank)


def _models(entries: Iterable[Entry]) -> Iterator[Reading]:
    told: set[str] = set()
    for entry in entries:
        model = entry.key.split("/")[1]
        if model in told:
            continue
        told.add(model)
        for name, value in sorted(_object(entry.value, "metrics").items())[:MOST_METRICS]:
            yield from _number(metrics.MODEL_METRIC, value, model, name)


def _quality(entries: Iterable[Entry]) -> Iterator[Reading]:
    for entry in entries:
        version = entry.key.partition("/")[2]
        yield from _number(metrics.LABELLED, entry.value.get("labelled"), version)
        yield from _number(metrics.WRONG, entry.value.get("wrong"), version)


def _controller(entry: Entry | None, now: float) -> Iterator[Reading]:
    if entry is None:
        return
    value = entry.value
    at, problems, nodes = value.get("at"), value.get("problems"), value.get("nodes")
    if isinstance(at, int | float):
        yield Reading(metrics.CONTROLLER_AGE, max(0.0, now - at))
    yield from _number(metrics.CONTROLLER_EPOCH, value.get("epoch"))
    yield Reading(metrics.CONTROLLER_PROBLEMS, float(len(problems) if isinstance(problems, list | tuple) else 0))
    states = Counter(str(n.get("state")) for n in (nodes if isinstance(nodes, list | tuple) else ()) if _is(n))
    for state, count in sorted(states.items()):
        yield Reading(metrics.NODES, float(count), (state,))


def _health(entry: Entry | None) -> Iterator[Reading]:
    """Of machines that people asked to be broken, in a drill, nothing is said."""
    nodes = entry.value.get("nodes") if entry else ()
    watched = [n for n in (nodes if isinstance(nodes, list | tuple) else ()) if isinstance(n, Mapping)]
    watched = [n for n in watched if not n.get("is_drill")]
    for node in watched:
        yield from _number(metrics.NODE_RISK, node.get("probability"), str(node.get("id"))[:NODE_CHARS])
    for state, count in sorted(Counter(str(n.get("state")) for n in watched).items()):
        yield Reading(metrics.NODE_HEALTH, float(count), (state,))
    if watched:
        yield Reading(metrics.NODES_CORDONED, float(sum(bool(n.get("is_cordoned")) for n in watched)))


def _backup(entry: Entry | None, now: float) -> Iterator[Reading]:
    at = entry.value.get("at") if entry else None
    if isinstance(at, int | float):
        yield Reading(metrics.BACKUP_AGE, max(0.0, now - at))


def _drift(entries: Iterable[Entry]) -> Iterator[Reading]:
    for entry in entries:
        system = entry.key.partition("/")[2]
        yield Reading(metrics.DRIFT_CONFIRMED, float(entry.value.get("state") not in (None, "watching")), (system,))


def _drift_evidence(entries: Iterable[Entry]) -> Iterator[Reading]:
    for entry in entries:
        system = entry.key.removeprefix(DRIFT_STATUS)
        for kind, value in _object(entry.value, "evidence").items():
            yield from _number(metrics.DRIFT_EVIDENCE, value, system, kind)


def _number(metric: Metric, value: Json, *labels: str) -> Iterator[Reading]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield Reading(metric, float(value), labels)


def _object(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _is(value: Json) -> bool:
    return isinstance(value, Mapping)
