"""Runs that deliveries asked for, kept from the moment they are accepted until they have ended, whoever dies meanwhile.

A delivery that comes while a run of its project waits joins that run, so a project has one run under way and one that
waits. Who carries a run out holds it by a lease that it renews; a run whose holder is silent is begun again by the next
one, which is harmless as finished steps are not done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from platformops.machine import advance, terminal

LEASE_S = 30.0
"""Three renewals long: one that comes late, on a machine that is busy, does not cost the run."""
MOST_ATTEMPTS = 5
"""A run that ends its server each time must not do so for ever."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that somebody asked for."""

    project: str
    revision: str
    who: str


class AskedState(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


class AskedEvent(Enum):
    BEGUN = "begun"
    WENT_WELL = "went well"
    WENT_WRONG = "went wrong"


S, E = AskedState, AskedEvent
ASKED = {
    (S.WAITING, E.BEGUN): S.RUNNING,
    (S.RUNNING, E.BEGUN): S.RUNNING,
    (S.RUNNING, E.WENT_WELL): S.SUCCESS,
    (S.RUNNING, E.WENT_WRONG): S.FAILED,
}


@dataclass(frozen=True, slots=True)
class AskedRun:
    project: str
    number: int
    revision: str
    """Of the newest delivery that asked for it."""
    who: str
    asked_at: float
    state: AskedState = AskedState.WAITING
    holder: str = ""
    held_until: float = 0.0
    attempts: int = 0
    """How often it was begun."""
    reason: str = ""
    """How it ended."""
    run_id: str = ""
    """The run that came of it, where it said so."""

    @property
    def name(self) -> str:
        return f"{self.project}/{self.number}"

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.project, self.revision, self.who)

    @property
    def has_ended(self) -> bool:
        return self.state in terminal(ASKED)


@dataclass(frozen=True, slots=True)
class Held:
    """The next run is in other hands, which may drop it."""

    until: float
    reason: str


def joined(newest: AskedRun | None, wanted: Wanted, now: float) -> AskedRun:
    """The run that a new delivery leads to: the one that waits, at the newer revision, else one more."""
    if newest is not None and newest.state is AskedState.WAITING:
        return replace(newest, revision=wanted.revision, who=wanted.who)
    return AskedRun(wanted.project, newest.number + 1 if newest else 1, wanted.revision, wanted.who, now)


def next_run(runs: Sequence[AskedRun], holder: str, now: float) -> AskedRun | Held | None:
    """The oldest of a project's runs that has not ended; Held while somebody else has it, None when all have ended."""
    run = min((run for run in runs if not run.has_ended), key=lambda run: run.number, default=None)
    if run is None:
        return None
    if run.state is AskedState.RUNNING and run.holder != holder and now < run.held_until:
        return Held(run.held_until, f"{run.name} is carried out by {run.holder}")
    return run


def begun(run: AskedRun, holder: str, now: float) -> AskedRun:
    """In the holder's hands; FAILED when it was begun too often already."""
    if run.attempts >= MOST_ATTEMPTS:
        return ended(run, went_well=False, reason=f"it was begun {run.attempts} times and never ended")
    state = advance(ASKED, run.state, AskedEvent.BEGUN, subject=run.name)
    return replace(run, state=state, holder=holder, held_until=now + LEASE_S, attempts=run.attempts + 1)


def ended(run: AskedRun, *, went_well: bool, reason: str, run_id: str = "") -> AskedRun:
    event = AskedEvent.WENT_WELL if went_well else AskedEvent.WENT_WRONG
    state = advance(ASKED, run.state, event, subject=run.name)
    return replace(run, state=state, holder="", held_until=0.0, reason=reason, run_id=run_id)
