"""Systems, rollouts and requests for them in the store: what `up`, `run`, `status` and `down` read and write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from platformops.delivery.decisions import decision_puts, decisions_on
from platformops.delivery.documents import rollout_from, rollout_json, system_from, system_json
from platformops.delivery.gate import CLASSES
from platformops.delivery.ledger import Ledger
from platformops.delivery.ledger_documents import ledger_from
from platformops.delivery.records import Decision, Revision, Rollout, RolloutKind, RolloutState, System
from platformops.delivery.rollout import is_running
from platformops.delivery.terms import terms_of
from platformops.errors import GateRefused, UserError
from platformops.registry.records import ModelVersion
from platformops.spec.types import PlatformSpec
from platformops.store.records import ABSENT, JsonObject, Put, Store, numbered

UP, DOWN = "up", "down"
ALL_AT_ONCE = ("100%",)
"""Of the first release of a system, which has no users yet and nothing to compare with."""


def system_key(name: str) -> str:
    return f"system/{name}"


def rollout_key(rollout: Rollout) -> str:
    return f"rollout/{rollout.system}/{numbered(rollout.number)}"


def ledger_key(rollout: Rollout) -> str:
    return f"evidence/{rollout.system}/{numbered(rollout.number)}"


def watch_key(rollout: Rollout) -> str:
    return f"watch/{rollout.system}/{numbered(rollout.number)}"


def queue_key(system: str) -> str:
    return f"queue/{system}"


def load_system(store: Store, name: str) -> tuple[System | None, int]:
    """The system and the version of its record; (None, ABSENT) when there is none."""
    entry = store.get(system_key(name))
    return (system_from(entry.value), entry.version) if entry else (None, ABSENT)


def load_systems(store: Store) -> Mapping[str, tuple[System, int]]:
    """Every system by name, with the version of its record."""
    found = ((system_from(entry.value), entry.version) for entry in store.scan("system/"))
    return {system.name: (system, version) for system, version in found}


def newest_rollout(store: Store, system: str) -> tuple[Rollout | None, int]:
    """The last rollout of a system, running or not, and the version of its record."""
    entries = store.scan(f"rollout/{system}/", limit=1, descending=True)
    return (rollout_from(entries[0].value), entries[0].version) if entries else (None, ABSENT)


def load_ledger(store: Store, rollout: Rollout) -> tuple[Ledger | None, int]:
    """The account of a rollout's traffic and the version of its record; (None, ABSENT) before it had any."""
    entry = store.get(ledger_key(rollout))
    return (ledger_from(entry.value), entry.version) if entry else (None, ABSENT)


def load_queued(store: Store, system: str) -> tuple[Rollout | None, int]:
    """The release that waits for the running one to end; its number is settled when it starts."""
    entry = store.get(queue_key(system))
    return (rollout_from(entry.value), entry.version) if entry else (None, ABSENT)


def load_rollout(store: Store, system: str, number: int) -> Rollout | None:
    entry = store.get(f"rollout/{system}/{numbered(number)}")
    return rollout_from(entry.value) if entry else None


def rollouts(store: Store, system: str, *, limit: int | None = None) -> tuple[Rollout, ...]:
    """Newest first."""
    return tuple(rollout_from(e.value) for e in store.scan(f"rollout/{system}/", limit=limit, descending=True))


def candidate_of(spec: PlatformSpec, version: ModelVersion, classes: tuple[str, ...], *, number: int) -> Revision:
    """The revision that would serve `version` as `spec` says."""
    train, evaluate = _artifact(version, "train"), _artifact(version, "evaluate")
    return Revision(
        system=spec.system,
        number=number,
        version=version.number,
        artifact=train[0],
        manifest_digest=train[1],
        replicas_min=spec.serve.replicas[0],
        replicas_max=spec.serve.replicas[1],
        options=spec.serve.model_dump(mode="json"),
        model=version.model,
        evaluation=evaluate[0],
        evaluation_digest=evaluate[1],
        classes=classes,
    )


def _artifact(version: ModelVersion, stage: str) -> tuple[str, str]:
    value = version.artifacts.get(stage)
    if not isinstance(value, Mapping):
        raise UserError(f"{version.name} has no artifact of the stage {stage}", remedy="run its pipeline again")
    return str(value["fingerprint"]), str(value["manifest_digest"])


def request_release(
    store: Store,
    spec: PlatformSpec,
    version: ModelVersion,
    *,
    classes: tuple[str, ...],
    now: float,
    queue: bool = False,
    champion: tuple[str, str] | None = None,
) -> Rollout:
    """The rollout that gives `version` the traffic of `spec.system`, started unless it is already there.

    Asking for what is stable brings back the rollout that made it so (and the system, when it was down); asking for
    what is being released brings back the running rollout. While another candidate is released it waits with `queue`
    (in place of one that waited before) and comes back with the number 0; raises GateRefused otherwise, and
    StoreConflict when somebody else asked at the same instant. `champion` is the artifact (fingerprint, digest) of an
    evaluation of what is stable that gates compare with, in place of the one from its own release.
    """
    system, system_version = load_system(store, spec.system)
    last, _ = newest_rollout(store, spec.system)
    number = last.number + 1 if last else 1
    candidate = candidate_of(spec, version, classes, number=number)
    if last and is_running(last) and queue and not candidate.serves_the_same(last.candidate):
        return _queue(store, _fresh(spec, candidate, last.candidate, now))
    if last and is_running(last):
        return _running(last, candidate)
    if system and system.stable and candidate.serves_the_same(system.stable):
        return _already_stable(store, system, system_version, now)
    stable = system.stable if system else None
    if stable and champion:
        stable = replace(stable, evaluation=champion[0], evaluation_digest=champion[1])
    fresh = _fresh(spec, candidate, stable, now)
    wanted = _wanted(system, candidate)
    store.commit([
        Put(system_key(spec.system), system_json(wanted), expect=system_version),
        Put(rollout_key(fresh), rollout_json(fresh), expect=ABSENT),
        *decision_puts(store, decisions_on(fresh, now)),
    ])  # fmt: skip
    return fresh


def _queue(store: Store, rollout: Rollout) -> Rollout:
    waiting = replace(rollout, number=0)
    store.commit([Put(queue_key(rollout.system), rollout_json(waiting), expect=None)])
    return waiting


def from_queue(waiting: Rollout, number: int, stable: Revision | None, now: float) -> Rollout:
    """The rollout that a release from the queue starts as."""
    return replace(
        waiting,
        number=number,
        candidate=replace(waiting.candidate, number=number),
        stable=stable,
        steps=waiting.steps if stable else ALL_AT_ONCE,
        reason=f"{waiting.candidate.version_name} was next in the queue",
        started_at=now,
        changed_at=now,
    )


def _fresh(spec: PlatformSpec, candidate: Revision, stable: Revision | None, now: float) -> Rollout:
    before = f"{stable.name} ({stable.version_name}) is stable" if stable else "nothing is served yet"
    return Rollout(
        system=spec.system,
        number=candidate.number,
        candidate=candidate,
        stable=stable,
        state=RolloutState.PENDING,
        step=0,
        steps=spec.release.steps if stable else ALL_AT_ONCE,
        conditions=conditions_of(spec),
        gates=(),
        reason=f"asked for {candidate.version_name}; {before}",
        started_at=now,
        changed_at=now,
        terms=terms_of(spec),
    )


def conditions_of(spec: PlatformSpec) -> Mapping[str, str]:
    """The spec's gates, and `classes` where `data.check.classes` asks that they stay as they are."""
    stable = spec.data is not None and spec.data.check.classes == "stable"
    return {**spec.gates, **({CLASSES: "stable"} if stable else {})}


def _wanted(system: System | None, candidate: Revision) -> System:
    """The system wanted up; before anything is stable the candidate's limits hold, as somebody must verify it."""
    if system and system.stable:
        return replace(system, wanted=UP)
    return System(candidate.system, None, None, candidate.options, candidate.classes, UP)


def _running(running: Rollout, candidate: Revision) -> Rollout:
    if running.kind is RolloutKind.DRILL:
        raise GateRefused(
            f"{running.system}: a drill is running ({running.state.value})",
            remedy=f"wait for it, or end it: platformops abort {running.system}",
        )
    if candidate.serves_the_same(running.candidate):
        return running
    raise GateRefused(
        f"{running.system}: {running.candidate.version_name} is being released ({running.state.value}), "
        f"so {candidate.version_name} cannot be",
        remedy=f"wait for it ({running.name}), or ask with --queue",
    )


def _already_stable(store: Store, system: System, version: int, now: float) -> Rollout:
    assert system.stable, "asked by request_release"
    made = load_rollout(store, system.name, system.stable.number)
    assert made, "a revision has the number of the rollout that brought it"
    if system.wanted != UP:
        _want(store, system, version, UP, f"{system.stable.name} is wanted again", now)
    return made


def stop_system(store: Store, name: str, *, now: float) -> bool:
    """The system is wanted down: its route goes, then its replicas; a running rollout is aborted. False when there is
    no such system or it is down already. Raises StoreConflict when the controller wrote at the same instant."""
    system, version = load_system(store, name)
    if system is None or system.wanted == DOWN:
        return False
    _want(store, system, version, DOWN, "asked to stop", now)
    return True


def _want(store: Store, system: System, version: int, wanted: str, reason: str, now: float) -> None:
    decision = Decision(system.name, f"{system.name} is to be {wanted}", reason, (), "", now)
    store.commit([
        Put(system_key(system.name), system_json(replace(system, wanted=wanted)), expect=version),
        *decision_puts(store, [decision]),
    ])  # fmt: skip


def controller_status(store: Store) -> JsonObject | None:
    """What the controller last wrote under `status/controller`; None before its first tick."""
    entry = store.get("status/controller")
    return entry.value if entry else None
