"""The durable record of one execution of a plan, with a heartbeat by which others see whether it still goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime

from platformops.clock import Clock
from platformops.errors import StoreConflict
from platformops.machine import advance
from platformops.pipeline.journal import IsAlive
from platformops.pipeline.records import Owner, Plan, RunEvent, RunState, StepResult, StepState
from platformops.store.records import ABSENT, Json, JsonObject, Store

HEARTBEAT_S = 3.0
SETTLED_RUNS = 5
"""How many of the newest runs a new one looks at; older ones were seen by those."""

RUN = {
    (RunState.RUNNING, RunEvent.SUCCEEDED): RunState.SUCCEEDED,
    (RunState.RUNNING, RunEvent.FAILED): RunState.FAILED,
    (RunState.RUNNING, RunEvent.CANCELLED): RunState.CANCELLED,
    (RunState.RUNNING, RunEvent.ABANDONED): RunState.FAILED,
}


class RunRecord:
    """Writes `run/<id>`. Only this run writes it, so a conflict is a defect and not a race."""

    def __init__(self, store: Store, plan: Plan, *, clock: Clock, owner: Owner) -> None:
        self._store, self._plan, self._clock, self._owner = store, plan, clock, owner
        self._state = RunState.RUNNING
        self.figures: Mapping[str, Mapping[str, float]] = {}
        """What each stage says of itself; written with the states."""
        self._started_at = clock.now()
        self._beaten_at = clock.monotonic()
        self.run_id, self._version = self._create()

    def beat(self, states: Mapping[str, StepState], results: Mapping[str, StepResult]) -> None:
        """Writes the states when the last heartbeat is old enough; cheap to call often."""
        if self._clock.monotonic() - self._beaten_at >= HEARTBEAT_S:
            self._beaten_at = self._clock.monotonic()
            self._write(states, results, "")

    def finish(self, event: RunEvent, results: Mapping[str, StepResult], reason: str) -> RunState:
        self._state = advance(RUN, self._state, event, subject=f"run {self.run_id}")
        self._write({name: result.state for name, result in results.items()}, results, reason)
        return self._state

    def _create(self) -> tuple[str, int]:
        for number in range(1000):
            run_id = _run_id(self._plan.system, self._owner, self._started_at, number)
            try:
                return run_id, self._store.put(f"run/{run_id}", self._json({}, {}, ""), expect=ABSENT)
            except StoreConflict:
                continue  # a second run of this process within the same instant
        raise AssertionError("a thousand runs in one instant")

    def _write(self, states: Mapping[str, StepState], results: Mapping[str, StepResult], reason: str) -> None:
        value = self._json(states, results, reason)
        self._version = self._store.put(f"run/{self.run_id}", value, expect=self._version)

    def _json(self, states: Mapping[str, StepState], results: Mapping[str, StepResult], reason: str) -> JsonObject:
        now = self._clock.now()
        return {
            "system": self._plan.system,
            "state": self._state.value,
            "reason": reason,
            "owner": asdict(self._owner),
            "started_at": self._started_at,
            "heartbeat_at": now,
            "finished_at": None if self._state is RunState.RUNNING else now,
            "steps": [
                {
                    **self._step(step.stage.name, step.fingerprint, states, results.get(step.stage.name)),
                    "figures": dict(self.figures.get(step.stage.name, {})),
                }
                for step in self._plan.steps
            ],
        }

    @staticmethod
    def _step(
        name: str, fingerprint: str, states: Mapping[str, StepState], result: StepResult | None
    ) -> Mapping[str, Json]:
        return {
            "name": name,
            "fingerprint": fingerprint,
            "state": states.get(name, StepState.PENDING).value,
            "cached": result.cached if result else False,
            "seconds": result.seconds if result else 0.0,
            "reason": result.reason if result else "",
        }


def settle_abandoned(store: Store, *, clock: Clock, is_alive: IsAlive) -> None:
    """Ends the records of recent runs whose process is known to be dead: they would say `running` for ever."""
    for entry in store.scan("run/", limit=SETTLED_RUNS, descending=True):
        owner = entry.value.get("owner")
        if entry.value.get("state") != RunState.RUNNING.value or not isinstance(owner, Mapping):
            continue
        if is_alive(Owner(**owner)) is not False:  # type: ignore[arg-type]
            continue
        state = advance(RUN, RunState.RUNNING, RunEvent.ABANDONED, subject=entry.key)
        reason = "its process ended without a word; the next run goes on from there"
        ended = {**entry.value, "state": state.value, "reason": reason, "finished_at": clock.now()}
        with suppress(StoreConflict):  # another new run has said it
            store.put(entry.key, ended, expect=entry.version)


def _run_id(system: str, owner: Owner, started_at: float, number: int) -> str:
    """Sorts by time; two runs never share one, without any luck."""
    text = f"{system} {owner.machine} {owner.pid} {owner.started} {started_at} {number}"
    moment = datetime.fromtimestamp(started_at, UTC).strftime("%Y%m%d-%H%M%S")
    return f"{moment}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
