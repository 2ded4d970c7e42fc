"""Runs drills on a live system: one defect after the other is released under load, judged, and gone again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from platformops.cli.load import Load
from platformops.clock import Clock
from platformops.delivery import orders
from platformops.delivery.drills import Case, Defect, Manner, case_of, request_drill
from platformops.delivery.records import Rollout, RolloutKind, RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import load_ledger, load_rollout, newest_rollout
from platformops.errors import ClusterError, StoreConflict, UserError
from platformops.pipeline.records import Progress
from platformops.store.records import Store

STAGE = "drill"
WHO = "the drill"
LOOK_S = 0.1
WARM_UP_S = 3.0
"""Of requests before the first defect: what an answer usually takes is told by them."""
AFTERWARDS_S = 2.0
"""Of requests after a verdict: in them the copy must not answer any more."""
LONGEST_S = 1500.0
"""Every state of a rollout has a deadline; past this nobody is turning the crank."""
CONFLICTS = 20


@dataclass(frozen=True, slots=True)
class Range:
    """Where drills are held."""

    store: Store
    clock: Clock
    system: str
    manner: Manner
    load: Load
    show: Callable[[Progress], None]


def drilled(defects: Sequence[Defect], at: Range) -> Iterator[Case]:
    """The case of each defect in turn, while the load of `at` goes on. A drill that is left half-way is aborted."""
    end_leftover(at.store, at.system, at.clock)
    at.clock.sleep(WARM_UP_S)
    typical_s = at.load.typical_s()
    if not typical_s:
        raise UserError(f"{at.system} answers no request: {'; '.join(at.load.seen.lost[-1:]) or 'none came back'}")
    try:
        for defect in defects:
            yield _drilled(defect, at, typical_s)
    finally:
        end_leftover(at.store, at.system, at.clock)


def end_leftover(store: Store, system: str, clock: Clock) -> None:
    """No drill runs on return: one that was killed half-way is aborted, and all traffic is on stable."""
    for _ in range(CONFLICTS):
        last, _ = newest_rollout(store, system)
        if last is None or last.kind is not RolloutKind.DRILL or not is_running(last):
            return
        try:
            orders.abort(store, system, who=WHO, now=clock.now())
        except StoreConflict:
            clock.sleep(LOOK_S)
    raise StoreConflict(f"{system} is being changed all the time", remedy=f"platformops abort {system}")


def _drilled(defect: Defect, at: Range, typical_s: float) -> Case:
    lost, began = len(at.load.seen.lost), at.clock.monotonic()
    asked = _asked(defect, at, typical_s)
    at.show(Progress(defect.name, "running", message=asked.reason))
    ended = _ended(asked, defect, at, began)
    at.clock.sleep(AFTERWARDS_S)
    ledger, _ = load_ledger(at.store, ended)
    last_at = at.load.seen.last_at.get(ended.candidate.name, 0.0)
    to_stable_s = max(0.0, last_at - ended.changed_at)
    case = case_of(defect.name, ended, ledger, lost=len(at.load.seen.lost) - lost, to_stable_s=to_stable_s)
    state = "done" if case.passed else "failed"
    said = f"caught by {case.caught_by}" if case.caught_by else "nothing caught it"
    at.show(Progress(defect.name, state, message=said, elapsed_s=at.clock.monotonic() - began))
    return case


def _asked(defect: Defect, at: Range, typical_s: float) -> Rollout:
    for _ in range(CONFLICTS):
        try:
            return request_drill(
                at.store, at.system, defect, at.manner, typical_s=typical_s, now=at.clock.now()
            )  # fmt: skip
        except StoreConflict:
            at.clock.sleep(LOOK_S)
    raise StoreConflict(f"{at.system} is being changed all the time", remedy="try again")


def _ended(asked: Rollout, defect: Defect, at: Range, began: float) -> Rollout:
    rollout = asked
    while is_running(rollout):
        elapsed_s = at.clock.monotonic() - began
        if elapsed_s > LONGEST_S:
            raise ClusterError(
                f"{rollout.name} is still {rollout.state.value} after {elapsed_s:.0f} s",
                remedy="see whether the controller runs: platformops status",
            )
        step = f" {rollout.steps[rollout.step]}" if rollout.state is RolloutState.SHIFTING else ""
        at.show(Progress(defect.name, "running", message=f"{rollout.state.value}{step}", elapsed_s=elapsed_s))
        at.clock.sleep(LOOK_S)
        rollout = load_rollout(at.store, asked.system, asked.number) or rollout
    return rollout
