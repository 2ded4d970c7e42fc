"""Asks for a release, and watches it until it has ended or somebody else must act."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from platformops.cli.running import Ran, Session, check_demand_on
from platformops.delivery import baking
from platformops.delivery.orders import approve
from platformops.delivery.records import Rollout, RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import load_ledger, load_rollout, load_system, request_release
from platformops.errors import Cancelled, ClusterError, StoreConflict
from platformops.pipeline.records import Progress
from platformops.spec.environments import PRODUCTION
from platformops.store.records import Store

STAGE = "release"
LOOK_S = 0.2
LONGEST_S = 900.0
"""The rollout has deadlines of its own; past this one nobody is turning the crank."""
CONFLICTS = 5
SHORT_WAIT_S = 60.0
"""A step that is passed in this time is waited for; what takes longer goes on without anybody watching."""
FIRST_LOOK_S = 5.0
"""At a step, until requests that come can be told from requests that do not."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a release is asked for."""

    queue: bool = False
    """Wait for a running release to end, in place of being refused."""
    watch: bool = False
    """Stay until it has ended."""
    environment: str = PRODUCTION
    approver: str = ""
    """Approves its traffic, where the spec wants that."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A rollout as it was last seen, and what its present step waits for."""

    rollout: Rollout
    waiting: str = ""
    """Empty once it has ended."""


def release(ran: Ran, s: Session, wish: Wish = Wish()) -> Asked:
    """The ended rollout of the run's version, or the running one that waits for requests, for approval or in the queue.
    With `watch` only an ended one. Safe to interrupt: it goes on."""
    watch = wish.watch
    asked = _asked(ran, s, queue=wish.queue)
    if not asked.number:
        return Asked(asked, "it starts when the running release has ended")
    began, seen = s.clock.monotonic(), _look(s, asked)
    while is_running(seen.rollout):
        elapsed_s = s.clock.monotonic() - began
        if wish.approver and seen.rollout.state is RolloutState.AWAITING:
            _approve(s, seen.rollout, wish.approver)
        message = (
            _progress(s, seen.rollout) if watch else seen.waiting
        ) or f"{seen.rollout.state.value}: {seen.rollout.reason}"
        s.show(Progress(STAGE, "running", message=message, elapsed_s=elapsed_s))
        _check_patience(s, elapsed_s, seen.rollout, watch=watch)
        if not watch and _takes_long(seen.rollout, s) and not _is_approved(seen.rollout, wish):
            return seen
        s.clock.sleep(LOOK_S)
        seen = _look(s, asked)
    state = "done" if seen.rollout.state is RolloutState.PROMOTED else "failed"
    message = f"{seen.rollout.state.value}: {seen.rollout.reason}"
    s.show(Progress(STAGE, state, message=message, elapsed_s=s.clock.monotonic() - began))
    return seen


def _is_approved(rollout: Rollout, wish: Wish) -> bool:
    """Whether it waits for nothing but the controller's next look at its approval."""
    return rollout.state is RolloutState.AWAITING and bool(wish.approver)


def _approve(s: Session, rollout: Rollout, who: str) -> None:
    """Once; the controller writes at the same time, and then the next look gives the order again."""
    if any(approval.of == "traffic" for approval in rollout.approvals):
        return
    with suppress(StoreConflict):
        approve(s.store, rollout.system, who=who, now=s.clock.now())


def _progress(s: Session, rollout: Rollout) -> str:
    if rollout.state is not RolloutState.SHIFTING or rollout.stable is None:
        return ""
    return baking.progress(rollout, load_ledger(s.store, rollout)[0], s.clock.now())


def _look(s: Session, asked: Rollout) -> Asked:
    rollout = load_rollout(s.store, asked.system, asked.number)
    assert rollout is not None, "rollouts are never deleted"
    return Asked(rollout, waits_for(s.store, rollout, s.clock.now()))


def waits_for(store: Store, rollout: Rollout, now: float) -> str:
    """What the rollout's state waits for, in one sentence; empty when that is told by its reason."""
    match rollout.state:
        case RolloutState.SHIFTING if rollout.stable is not None:
            return baking.waiting(rollout, load_ledger(store, rollout)[0], now)
        case RolloutState.AWAITING:
            return f"one of {', '.join(rollout.terms.approvers)} must approve: platformops approve {rollout.system}"
        case RolloutState.PAUSED:
            return f"{rollout.reason}; go on: platformops resume {rollout.system}"
        case RolloutState.HALTED:
            system = rollout.system
            return f"{rollout.reason}; begin anew: platformops resume {system}; end it: platformops abort {system}"
        case _:
            return ""


def _takes_long(rollout: Rollout, s: Session) -> bool:
    """Whether a person, or many requests, must come before the rollout moves."""
    if rollout.state in (RolloutState.AWAITING, RolloutState.PAUSED, RolloutState.HALTED):
        return True
    if rollout.state is not RolloutState.SHIFTING or rollout.routed_at is None or rollout.stable is None:
        return False
    now = s.clock.now()
    if now - rollout.routed_at < FIRST_LOOK_S:
        return False
    left_s = baking.left_s(rollout, load_ledger(s.store, rollout)[0], now)
    return left_s is None or left_s > SHORT_WAIT_S


def _asked(ran: Ran, s: Session, *, queue: bool) -> Rollout:
    assert ran.version is not None
    classes = tuple(str(name) for name in _classes(ran))
    for attempt in range(CONFLICTS):
        try:
            return request_release(
                s.store, ran.planned.spec, ran.version, classes=classes, now=s.clock.now(), queue=queue
            )
        except StoreConflict:
            if attempt == CONFLICTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def check_replicas(ran: Ran, s: Session) -> None:
    """Raises ClusterError when other replicas are wanted than run already, and the cluster can never hold them."""
    spec = ran.planned.spec
    system, _ = load_system(s.store, spec.system)
    if system is None or system.stable is None or system.stable.options != spec.serve.model_dump(mode="json"):
        check_demand_on(spec, s.cluster.get(), is_served=True)


def _classes(ran: Ran) -> list[object]:
    assert ran.version is not None
    data = ran.version.params["data"]
    classes = data.get("classes") if isinstance(data, Mapping) else None
    return list(classes) if isinstance(classes, list | tuple) else []


def _check_patience(s: Session, elapsed_s: float, rollout: Rollout, *, watch: bool) -> None:
    if s.cancelled.is_set():
        raise Cancelled(
            f"{rollout.name} goes on without you ({rollout.state.value})",
            remedy=f"see it: platformops why {rollout.name}",
        )
    if elapsed_s > LONGEST_S and not watch:
        raise ClusterError(
            f"{rollout.name} is still {rollout.state.value} after {elapsed_s:.0f} s: {rollout.reason}",
            remedy="see whether the controller runs: platformops status",
        )
