"""The keeper's loop: look, decide, write down, act; over and over until the cluster is no longer wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from platformops.clock import Clock
from platformops.delivery.decisions import decision_puts
from platformops.delivery.records import Decision
from platformops.errors import PlatformError, StoreError
from platformops.keeper.decide import decide
from platformops.keeper.records import Act, GiveUp, Kill, Memory, RestartHead, Resume, Sighting, StartGcs
from platformops.observation.log_lines import line as log_line
from platformops.store.records import Json, Store

SUBJECT = "keeper"
"""Under which `why` finds what the keeper did."""
LOOK_S = 0.5
"""Between two looks while nothing dies; a death of GCS or raylet is seen at once."""
LOG_FILE = "keeper.jsonl"


class Machine(Protocol):
    """What the edge does for the keeper. An act that raises was not carried out; it is decided again."""

    def look(self) -> Sighting: ...

    def act(self, act: Act) -> None: ...

    def wait(self, timeout_s: float) -> None:
        """Returns when GCS or raylet dies, at the latest after `timeout_s`."""
        ...


def keep(machine: Machine, store: Store, clock: Clock, log: Path, *, is_ended: Callable[[], bool]) -> None:
    """Returns once the cluster is not wanted any more, or when `is_ended` says so."""
    memory = Memory()
    seen = machine.look()
    _log(log, clock, "keeping", has_gcs=seen.has_gcs, has_raylet=seen.has_raylet)
    while not is_ended():
        decided = decide(seen, memory, clock.monotonic())
        if decided.is_over:
            return
        memory = decided.memory
        for act in decided.acts:
            _carry_out(act, machine, store, clock, log)
        machine.wait(LOOK_S)
        seen = machine.look()


def _carry_out(act: Act, machine: Machine, store: Store, clock: Clock, log: Path) -> None:
    began = clock.monotonic()
    _log(log, clock, "decided", act=said(act), reason=act.reason)
    _record(act, store, clock)
    try:
        machine.act(act)
    except Exception as error:  # a keeper that dies of one act keeps nothing any more
        reason = error.message if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
        _log(log, clock, "failed", act=said(act), reason=reason)
    else:
        _log(log, clock, "done", act=said(act), seconds=round(clock.monotonic() - began, 3))


def said(act: Act) -> str:
    """The act, as people read it."""
    match act:
        case StartGcs():
            return "start the GCS again"
        case RestartHead():
            return "start the cluster again"
        case Kill(pid=pid, name=name):
            return f"kill {name} ({pid})"
        case Resume(errand=errand):
            return f"resume {errand}"
        case GiveUp():
            return "give up"


def _record(act: Act, store: Store, clock: Clock) -> None:
    """A store that fails must not keep a cluster down: the log has it then."""
    decision = Decision(SUBJECT, said(act), act.reason, (), "", clock.now())
    try:
        store.commit(decision_puts(store, [decision]))
    except StoreError:
        return


def _log(log: Path, clock: Clock, event: str, **fields: Json) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        message = str(fields.pop("reason", event))
        file.write(log_line(clock.now(), event, message, about=fields) + "\n")
