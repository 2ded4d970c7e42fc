"""What people may order of a release while it runs, and afterwards: pause, resume, abort, approve, roll back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from platformops.delivery.decisions import decision_puts, decisions_on
from platformops.delivery.documents import rollout_json, system_json
from platformops.delivery.records import (
    Approval,
    Decision,
    GateResult,
    Revision,
    Rollout,
    RolloutEvent,
    RolloutKind,
    RolloutState,
    System,
)
from platformops.delivery.rollout import SPLIT, is_running, moved
from platformops.delivery.systems import (
    ALL_AT_ONCE,
    UP,
    ledger_key,
    load_system,
    newest_rollout,
    rollout_key,
    rollouts,
    system_key,
)
from platformops.errors import GateRefused, UserError
from platformops.store.records import ABSENT, Put, Store

E = RolloutEvent


def pause(store: Store, system: str, *, who: str, now: float) -> Rollout:
    """The running rollout stays at its step; guards go on. Raises UserError without one, InvalidTransition when it has
    no traffic yet, and StoreConflict when the controller wrote at the same instant: all orders do."""
    rollout, version = _running(store, system)
    return _written(store, moved(rollout, E.PAUSE, f"paused by {who}", now), version, now)


def resume(store: Store, system: str, *, who: str, now: float) -> Rollout:
    """A paused rollout goes on at its step; one that was halted by a guard begins anew, with a new account."""
    rollout, version = _running(store, system)
    is_halted = rollout.state is RolloutState.HALTED
    onward = moved(rollout, E.RESUME, f"resumed by {who}", now)
    if not is_halted:
        return _written(store, onward, version, now)
    afresh = replace(onward, step=0)
    return _written(store, afresh, version, now, Put(ledger_key(afresh), None, expect=None))


def abort(store: Store, system: str, *, who: str, now: float) -> Rollout:
    """The running rollout ends, and stable has all traffic."""
    rollout, version = _running(store, system)
    return _written(store, moved(rollout, E.ABORT, f"aborted by {who}", now), version, now)


def approve(store: Store, system: str, *, who: str, now: float) -> Rollout:
    """The rollout with the approval on record: to have traffic where the spec wants one, else to go on without proof.

    Raises GateRefused when the spec names others than `who`.
    """
    rollout, version = _running(store, system)
    names = rollout.terms.approvers
    if names and who not in names:
        raise GateRefused(
            f"{who} may not approve {rollout.name}", remedy=f"one of these may: {', '.join(names)} (--as NAME)"
        )
    of = "evidence" if rollout.state in SPLIT else "traffic"
    if of == "traffic" and not names:
        raise UserError(f"{rollout.name} needs no approval before it has traffic", remedy="wait until it is shifting")
    approved = replace(rollout, approvals=(*rollout.approvals, Approval(who, now, of)))
    decision = Decision(
        rollout.system, f"{who} approved {rollout.candidate.version_name} ({of})", rollout.reason, (), "", now
    )
    _commit(store, approved, version, [decision, replace(decision, subject=rollout.name)])
    return approved


def roll_back(store: Store, system: str, *, who: str, now: float) -> Rollout:
    """All traffic to the last good version: a running release is ended, else a rollback to what was stable before.

    Asking twice changes nothing. Raises UserError when there is no earlier version that was left in good order.
    """
    present, system_version = load_system(store, system)
    last, version = newest_rollout(store, system)
    if present is None or last is None:
        raise UserError(f"there is no system {system!r}", remedy="platformops status lists them")
    if is_running(last) and last.kind is RolloutKind.ROLLBACK:
        return last
    if is_running(last) and last.kind is RolloutKind.RELEASE and last.stable is not None:
        return _written(store, moved(last, E.ABORT, f"rolled back by {who}", now), version, now)
    newest_first = rollouts(store, system)
    meant = next((r for r in newest_first if r.kind is not RolloutKind.DRILL), last)
    if meant.kind is RolloutKind.ROLLBACK and meant.state is RolloutState.PROMOTED and not is_running(last):
        return meant
    target = last_good(newest_first, present)
    if target is None or present.stable is None:
        raise UserError(f"{system} has no earlier version to go back to", remedy="platformops models lists versions")
    back = going_back(present.stable, target, last, f"{who} asked to go back", now)
    ended = moved(last, E.ABORT, f"{who} rolls back", now) if is_running(last) else None  # a drill
    store.commit([
        Put(system_key(system), system_json(replace(present, wanted=UP)), expect=system_version),
        *([Put(rollout_key(ended), rollout_json(ended), expect=version)] if ended else []),
        Put(rollout_key(back), rollout_json(back), expect=ABSENT),
        *decision_puts(store, [*(decisions_on(ended, now) if ended else ()), *decisions_on(back, now)]),
    ])  # fmt: skip
    return back


def go_back(store: Store, judged: Revision, found: GateResult, *, now: float) -> Rollout | None:
    """A rollback from the stable version `judged` for what was found against it; None where it is not stable any more,
    a rollout runs, or the system is to be down: others have the word then.

    Raises UserError when there is no earlier version that was left in good order, and StoreConflict.
    """
    present, system_version = load_system(store, judged.system)
    last, _ = newest_rollout(store, judged.system)
    if present is None or last is None or present.wanted != UP or is_running(last) or present.stable != judged:
        return None
    target = last_good(rollouts(store, judged.system), present)
    if target is None:
        raise UserError(f"{judged.system} has no earlier version to go back to", remedy="platformops models")
    back = replace(going_back(judged, target, last, f"{found.reason}; going back", now), gates=(found,))
    store.commit([
        Put(system_key(judged.system), system_json(present), expect=system_version),
        Put(rollout_key(back), rollout_json(back), expect=ABSENT),
        *decision_puts(store, decisions_on(back, now)),
    ])  # fmt: skip
    return back


def last_good(newest_first: Sequence[Rollout], system: System) -> Revision | None:
    """What was stable before the present one, and was not itself rolled back from."""
    promoted = [r for r in newest_first if r.state is RolloutState.PROMOTED]
    left = {r.stable.name for r in promoted if r.kind is RolloutKind.ROLLBACK and r.stable}
    present = system.stable.number if system.stable else 0
    earlier = (r.candidate for r in promoted if r.candidate.number < present and r.candidate.name not in left)
    return max(earlier, key=lambda revision: revision.number, default=None)


def going_back(stable: Revision, target: Revision, last: Rollout, why: str, now: float) -> Rollout:
    """The rollback that follows `last`: it starts where a revision is deployed, which takes no time while the target is
    warm."""
    return Rollout(
        system=last.system,
        number=last.number + 1,
        candidate=target,
        stable=stable,
        state=RolloutState.DEPLOYING,
        step=0,
        steps=ALL_AT_ONCE,
        conditions={},
        gates=(),
        reason=f"{why} from {stable.version_name} to {target.version_name}",
        started_at=now,
        changed_at=now,
        kind=RolloutKind.ROLLBACK,
        terms=last.terms,
    )


def _running(store: Store, system: str) -> tuple[Rollout, int]:
    rollout, version = newest_rollout(store, system)
    if rollout is None or not is_running(rollout):
        raise UserError(
            f"no release of {system!r} is running", remedy=f"see what was decided: platformops why {system}"
        )
    return rollout, version


def _written(store: Store, rollout: Rollout, version: int, now: float, *puts: Put) -> Rollout:
    _commit(store, rollout, version, decisions_on(rollout, now), *puts)
    return rollout


def _commit(store: Store, rollout: Rollout, version: int, decisions: Sequence[Decision], *puts: Put) -> None:
    store.commit([
        Put(rollout_key(rollout), rollout_json(rollout), expect=version), *puts, *decision_puts(store, decisions),
    ])  # fmt: skip
