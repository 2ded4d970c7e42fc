"""Asked runs in the store: read, joined, begun, kept and ended, each with the version that was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from platformops.delivery.ci.asked import LEASE_S, AskedRun, AskedState, Held, Wanted, begun, joined, next_run
from platformops.errors import StoreError
from platformops.store.records import ABSENT, JsonObject, Put, Store, numbered

STORED_UNDER = "asked/"
_OPEN = 2
"""One that is carried out and one that waits: all before them have ended."""


def asked_put(store: Store, wanted: Wanted, now: float) -> tuple[AskedRun, Put]:
    """The run that a delivery leads to, and the write that makes it so."""
    newest = store.scan(_place(wanted.project), limit=1, descending=True)
    run = joined(asked_from(newest[0].value) if newest else None, wanted, now)
    is_there = bool(newest) and newest[0].key == _key(run)
    return run, Put(_key(run), asked_json(run), expect=newest[0].version if is_there else ABSENT)


def load_asked(store: Store, project: str, number: int) -> AskedRun | None:
    entry = store.get(f"{_place(project)}{numbered(number)}")
    return asked_from(entry.value) if entry else None


def asked_runs(store: Store, limit: int) -> Sequence[AskedRun]:
    """The newest of all projects, oldest first."""
    runs = sorted((asked_from(entry.value) for entry in store.scan(STORED_UNDER)), key=lambda run: run.asked_at)
    return runs[-limit:]


def begin_next(store: Store, project: str, holder: str, now: float) -> tuple[AskedRun, int] | Held | None:
    """The project's next run in the holder's hands, and its version in the store. Raises StoreConflict when somebody
    else was quicker."""
    open_ones = store.scan(_place(project), limit=_OPEN, descending=True)
    found = next_run([asked_from(entry.value) for entry in open_ones], holder, now)
    if not isinstance(found, AskedRun):
        return found
    version = next(entry.version for entry in open_ones if entry.key == _key(found))
    run = begun(found, holder, now)
    return run, put_asked(store, run, version)


def kept(store: Store, run: AskedRun, version: int, now: float) -> tuple[AskedRun, int]:
    """The lease, longer. Raises StoreConflict when somebody else has the run by now."""
    longer = replace(run, held_until=now + LEASE_S)
    return longer, put_asked(store, longer, version)


def put_asked(store: Store, run: AskedRun, version: int) -> int:
    return store.put(_key(run), asked_json(run), expect=version)


def forgotten(store: Store, project: str, before: float, limit: int) -> list[Put]:
    """Deletions of runs that ended and were asked for `before` that time; at most `limit` are looked at."""
    runs = [(entry, asked_from(entry.value)) for entry in store.scan(_place(project), limit=limit)]
    return [Put(entry.key, None, entry.version) for entry, run in runs if run.has_ended and run.asked_at < before]


def asked_json(run: AskedRun) -> JsonObject:
    return {
        "project": run.project,
        "number": run.number,
        "revision": run.revision,
        "who": run.who,
        "asked_at": run.asked_at,
        "state": run.state.value,
        "holder": run.holder,
        "held_until": run.held_until,
        "attempts": run.attempts,
        "reason": run.reason,
        "run_id": run.run_id,
    }


def asked_from(doc: JsonObject) -> AskedRun:
    """Raises StoreError for what is not an asked run."""
    try:
        return AskedRun(
            project=str(doc["project"]),
            number=int(str(doc["number"])),
            revision=str(doc["revision"]),
            who=str(doc["who"]),
            asked_at=float(str(doc["asked_at"])),
            state=AskedState(doc["state"]),
            holder=str(doc["holder"]),
            held_until=float(str(doc["held_until"])),
            attempts=int(str(doc["attempts"])),
            reason=str(doc["reason"]),
            run_id=str(doc["run_id"]),
        )
    except (KeyError, ValueError) as error:
        raise StoreError(
            f"a stored run that was asked for cannot be read: {error!r:.80}",
            remedy="it was written by another version of platformops, or changed by hand",
        ) from error


def _place(project: str) -> str:
    return f"{STORED_UNDER}{project}/"


def _key(run: AskedRun) -> str:
    return f"{_place(run.project)}{numbered(run.number)}"
