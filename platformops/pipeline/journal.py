"""The durable state of steps: who may run one now, and what came of it, each change a compare-and-set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from platformops.clock import Clock
from platformops.errors import LeaseLost, StoreConflict
from platformops.machine import advance
from platformops.pipeline.fingerprint import key_json
from platformops.pipeline.records import Failure, Owner, Step, StepEvent, StepState
from platformops.pipeline.wire import failure_of
from platformops.store.records import ABSENT, Entry, Json, JsonObject, Put, Store

LEASE_S = 15.0
RENEW_S = 3.0
"""Four renewals may be missed (a long fsync, a paused laptop) before anybody thinks the owner gone."""
MOST_SKEW_S = 60.0
"""Clocks of two machines differ by less. A lease that ran out longer ago is dead by anybody's clock."""

STEP = {
    (StepState.PENDING, StepEvent.CLAIMED): StepState.RUNNING,
    (StepState.FAILED, StepEvent.CLAIMED): StepState.RUNNING,
    (StepState.CANCELLED, StepEvent.CLAIMED): StepState.RUNNING,
    (StepState.RUNNING, StepEvent.STOLEN): StepState.RUNNING,
    (StepState.RUNNING, StepEvent.RENEWED): StepState.RUNNING,
    (StepState.RUNNING, StepEvent.RETRIED): StepState.RUNNING,
    (StepState.RUNNING, StepEvent.COMPLETED): StepState.DONE,
    (StepState.RUNNING, StepEvent.FAILED): StepState.FAILED,
    (StepState.RUNNING, StepEvent.CANCELLED): StepState.CANCELLED,
    (StepState.DONE, StepEvent.INVALIDATED): StepState.PENDING,
}

IsAlive = Callable[[Owner], bool | None]
"""Whether that process still runs; None when this machine cannot know."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What `step/<fingerprint>` holds."""

    system: str
    stage: str
    state: StepState = StepState.PENDING
    token: int = 0
    """Rises with each claim; a writer with a lower one is stale."""
    owner: Owner | None = None
    expires_at: float | None = None
    run_id: str = ""
    attempts: int = 0
    """Under this claim."""
    manifest_digest: str | None = None
    seconds: float = 0.0
    summary: JsonObject = field(default_factory=dict)
    failure: Failure | None = None
    reason: str = ""
    is_damaged: bool = False
    """What lies in the artifact's place is not to be trusted; whoever claims the step moves it aside first."""
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a step's record, until somebody else claims it."""

    fingerprint: str
    version: int
    record: StepRecord


@dataclass(frozen=True, slots=True)
class Held:
    """Another owner runs the step; the reason is for the person who waits."""

    reason: str


class Journal:
    """Reads and moves step records for one owner. Every write raises LeaseLost once the token is not ours."""

    def __init__(self, store: Store, *, clock: Clock, owner: Owner, run_id: str, is_alive: IsAlive) -> None:
        self._store, self._clock, self._owner = store, clock, owner
        self._run_id, self._is_alive = run_id, is_alive
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, fingerprint: str) -> StepRecord | None:
        entry = self._store.get(_key(fingerprint))
        return read_record(entry.value) if entry else None

    def claim(self, step: Step, *, system: str) -> Lease | Held | StepRecord:
        """A lease; or why it must wait; or, when the step is done already, its record."""
        entry = self._store.get(_key(step.fingerprint))
        record = read_record(entry.value) if entry else StepRecord(system=system, stage=step.stage.name)
        if record.state is StepState.DONE:
            return record
        if record.state is StepState.RUNNING:
            assert entry is not None
            if reason := self._held(entry, record):
                return Held(reason)
        event = StepEvent.STOLEN if record.state is StepState.RUNNING else StepEvent.CLAIMED
        claimed = replace(
            self._moved(record, event),
            token=record.token + 1,
            owner=self._owner,
            run_id=self._run_id,
            expires_at=self._clock.now() + LEASE_S,
            attempts=1,
            failure=None,
            reason=record.reason if record.is_damaged else "",
        )
        try:
            version = self._store.put(
                _key(step.fingerprint), write_record(claimed), expect=entry.version if entry else ABSENT
            )
        except StoreConflict:
            return Held("another run claimed it at this moment")
        return Lease(step.fingerprint, version, claimed)

    def _held(self, entry: Entry, record: StepRecord) -> str:
        """Why the running step may not be taken over; empty when its owner is gone.

        Without knowledge of the process, a lease counts as run out when its record stood still for a whole lease on
        *our* clock: the other machine's clock may be wrong.
        """
        assert record.owner is not None
        alive = self._is_alive(record.owner)
        if alive is False:
            return ""
        seen_version, since = self._seen.get(entry.key, (None, 0.0))
        if seen_version != entry.version:
            since = self._clock.monotonic()
            self._seen[entry.key] = (entry.version, since)
        still_s = self._clock.monotonic() - since
        long_gone = alive is None and (record.expires_at or 0.0) + MOST_SKEW_S < self._clock.now()
        if still_s >= LEASE_S or long_gone:
            return ""
        quiet = f", silent for {still_s:.0f} s of {LEASE_S:.0f} s" if still_s > 2 * RENEW_S else ""
        return f"{record.owner} is running it (run {record.run_id}{quiet})"

    def renew(self, lease: Lease) -> Lease:
        return self._write(lease, StepEvent.RENEWED, expires_at=self._clock.now() + LEASE_S)

    def retry(self, lease: Lease, failure: Failure) -> Lease:
        """Keeps the lease for another attempt, with why the last one failed."""
        attempts = lease.record.attempts + 1
        expires_at = self._clock.now() + LEASE_S
        return self._write(lease, StepEvent.RETRIED, attempts=attempts, failure=failure, expires_at=expires_at)

    def complete(self, lease: Lease, step: Step, *, manifest_digest: str, seconds: float, summary: JsonObject) -> Lease:
        """Done, in one commit with what `plan` will compare the next change to."""
        latest = Put(latest_key(lease.record.system, step.stage.name), latest_json(step, seconds), None)
        return self._write(
            lease,
            StepEvent.COMPLETED,
            latest,
            manifest_digest=manifest_digest,
            seconds=seconds,
            summary=summary,
            failure=None,
            reason="",
            is_damaged=False,
            **self._released(),
        )

    def fail(self, lease: Lease, failure: Failure) -> Lease:
        return self._write(lease, StepEvent.FAILED, failure=failure, reason=failure.reason, **self._released())

    def cancel(self, lease: Lease, reason: str) -> Lease:
        return self._write(lease, StepEvent.CANCELLED, reason=reason, **self._released())

    def invalidate(self, fingerprint: str, reason: str) -> None:
        """A finished step becomes pending again because its artifact cannot be used; others may have done it first."""
        entry = self._store.get(_key(fingerprint))
        record = read_record(entry.value) if entry else None
        if entry is None or record is None or record.state is not StepState.DONE:
            return
        moved = replace(
            self._moved(record, StepEvent.INVALIDATED), manifest_digest=None, reason=reason, is_damaged=True
        )
        try:
            self._store.put(_key(fingerprint), write_record(moved), expect=entry.version)
        except StoreConflict:
            return  # whoever wrote meanwhile saw the same artifact: the next claim decides

    def _released(self) -> dict[str, object]:
        return {"owner": None, "expires_at": None, "finished_at": self._clock.now()}

    def _moved(self, record: StepRecord, event: StepEvent) -> StepRecord:
        return replace(record, state=advance(STEP, record.state, event, subject=f"step {record.stage}"))

    def _write(self, lease: Lease, event: StepEvent, *also: Put, **changes: object) -> Lease:
        record = replace(self._moved(lease.record, event), **changes)  # type: ignore[arg-type]
        put = Put(_key(lease.fingerprint), write_record(record), lease.version)
        try:
            version = self._store.commit([put, *also])[0]
        except StoreConflict as exc:
            raise self._lost(lease) from exc
        return Lease(lease.fingerprint, version, record)

    def _lost(self, lease: Lease) -> LeaseLost:
        now = self.look(lease.fingerprint)
        by = f"{now.owner or 'another run'} with token {now.token}" if now else "a deletion"
        return LeaseLost(
            f"step {lease.record.stage}: token {lease.record.token} was overtaken by {by}",
            remedy="nothing is lost: the newer owner finishes the step",
        )


def _key(fingerprint: str) -> str:
    return f"step/{fingerprint}"


def latest_key(system: str, stage: str) -> str:
    return f"latest/{system}/{stage}"


def latest_json(step: Step, seconds: float) -> JsonObject:
    return {"fingerprint": step.fingerprint, "key": key_json(step.key), "seconds": seconds}


def write_record(record: StepRecord) -> JsonObject:
    plain: dict[str, Json] = {
        **{name: getattr(record, name) for name in record.__slots__},
        "state": record.state.value,
        "owner": asdict(record.owner) if record.owner else None,
        "failure": asdict(record.failure) if record.failure else None,
    }
    return plain


def read_record(value: JsonObject) -> StepRecord:
    known = {name: value[name] for name in StepRecord.__slots__ if name in value}
    owner, failure = known.get("owner"), known.get("failure")
    known["owner"] = Owner(**owner) if isinstance(owner, dict) else None  # type: ignore[assignment]
    known["failure"] = failure_of(failure) if isinstance(failure, dict) else None  # type: ignore[assignment]
    return StepRecord(**{**known, "state": StepState(known["state"])})  # type: ignore[arg-type]
