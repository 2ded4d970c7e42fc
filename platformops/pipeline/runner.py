"""Runs a plan to its end: claims steps, tries them, retries, waits for other runs, and can die at any line.

The store is written before acting, and an artifact is published before the journal says done; whoever runs next goes
on from there. All decisions are made in one thread; attempts block in others and only send news.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import platformops.errors
from platformops.clock import Clock
from platformops.errors import AppError, ArtifactCorrupt, LeaseLost, PlatformError
from platformops.home import Home
from platformops.pipeline.attempt import Attempts, Damaged, Published
from platformops.pipeline.calls import problems_of
from platformops.pipeline.crew import Active, Crew, Outcome
from platformops.pipeline.identity import Identity
from platformops.pipeline.journal import RENEW_S, Held, IsAlive, Journal, StepRecord
from platformops.pipeline.ledger import Ledger
from platformops.pipeline.logbook import Logbook
from platformops.pipeline.modules import import_roots
from platformops.pipeline.preview import explain
from platformops.pipeline.process import is_alive as process_is_alive
from platformops.pipeline.records import Failure, Owner, Plan, RunEvent, RunResult, RunState, Step, StepState
from platformops.pipeline.runs import RunRecord, settle_abandoned
from platformops.pipeline.schedule import Schedule, rest_s
from platformops.pipeline.shelf import Shelf
from platformops.pipeline.shortage import LOOK_AT_DISK_S, PAUSE_S
from platformops.pipeline.teller import OnProgress, Teller
from platformops.pipeline.wire import Launcher, News
from platformops.store.artifacts import Artifacts
from platformops.store.records import Store

LOOK_S = 0.2
"""How often a run looks after its leases, after those of others, and whether it was cancelled."""
MOST_REPAIRS = 2
"""A step whose artifact is damaged again and again has a broken disk below it."""


def run_plan(
    plan: Plan,
    *,
    store: Store,
    artifacts: Artifacts,
    home: Home,
    clock: Clock,
    launcher: Launcher,
    owner: Owner,
    root: Path,
    identity: Identity | None = None,
    on_progress: OnProgress | None = None,
    cancelled: threading.Event | None = None,
    parallel: int = 2,
    verify: Collection[str] = (),
    is_alive: IsAlive = process_is_alive,
) -> RunResult:
    """What became of every step; the state is FAILED or CANCELLED rather than an exception.

    `verify` names stages whose cached artifact the caller will open: damaged ones are made again. With `identity`,
    steps whose code or data changed after the plan are refused. Raises AppError, before anything runs, for functions
    that do not fit their stage, and StoreUnavailable when nothing can be written down.
    """
    previews = explain(plan, store)
    cached = {preview.name for preview in previews if preview.cached}
    stages = [step.stage for step in plan.steps if step.stage.name not in cached]
    if problems := problems_of(stages, import_roots(root)):
        raise AppError("\n".join(problems), remedy="correct the stages of the spec, or their functions")
    settle_abandoned(store, clock=clock, is_alive=is_alive)
    record = RunRecord(store, plan, clock=clock, owner=owner)
    journal = Journal(store, clock=clock, owner=owner, run_id=record.run_id, is_alive=is_alive)
    attempts = Attempts(artifacts=artifacts, launcher=launcher, home=home, root=root, identity=identity)
    ledger = Ledger(plan, {preview.name: "; ".join(preview.reasons) for preview in previews})
    with Logbook(home.logs, system=plan.system, run_id=record.run_id, clock=clock) as logbook:
        teller, schedule = Teller(logbook, clock, on_progress), Schedule(plan)
        record.figures = teller.figures
        shelf = Shelf(journal, attempts, artifacts, ledger, schedule, teller, verify=frozenset(verify))
        run = _Run(
            plan,
            record=record,
            journal=journal,
            attempts=attempts,
            shelf=shelf,
            ledger=ledger,
            schedule=schedule,
            teller=teller,
            clock=clock,
            parallel=parallel,
        )
        return run.go(cancelled or threading.Event())


def exit_code(result: RunResult) -> int:
    """0, 130 when cancelled, else what the class of the first failure says in `errors.py`."""
    if result.state is RunState.SUCCEEDED:
        return 0
    if result.state is RunState.CANCELLED:
        return platformops.errors.Cancelled.exit_code
    failures = [step.failure for step in result.steps if step.failure]
    kind = getattr(platformops.errors, failures[0].kind, None) if failures else None
    if isinstance(kind, type) and issubclass(kind, PlatformError):
        return kind.exit_code
    return platformops.errors.StageFailed.exit_code


@dataclass(slots=True)
class _Waiting:
    """A step that another run holds."""

    step: Step
    reason: str
    look_at: float


class _Run:
    def __init__(
        self,
        plan: Plan,
        *,
        record: RunRecord,
        journal: Journal,
        attempts: Attempts,
        shelf: Shelf,
        ledger: Ledger,
        schedule: Schedule,
        teller: Teller,
        clock: Clock,
        parallel: int,
    ) -> None:
        self._plan, self._record, self._journal, self._attempts, self._shelf = plan, record, journal, attempts, shelf
        self._ledger, self._schedule, self._teller, self._clock = ledger, schedule, teller, clock
        self._parallel = parallel
        self._crew = Crew(attempts, parallel)
        self._active: dict[str, Active] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._num_repairs: dict[str, int] = {}

    def go(self, cancelled: threading.Event) -> RunResult:
        self._teller.run("run-started", f"run {self._record.run_id} of {len(self._plan.steps)} steps")
        try:
            self._shelf.take_all(self._plan)
            while not cancelled.is_set() and self._turn():
                pass
            self._stop("cancelled by a person")
        except BaseException as error:
            reason = f"the run ended early: {type(error).__name__}"
            with suppress(Exception):  # the error at hand says more than a store or terminal that fails again
                self._stop(reason)
            with suppress(Exception):
                self._record.finish(RunEvent.FAILED, self._ledger.results, reason)
            raise
        finally:
            self._crew.close()
        event, reason = self._ledger.close(was_cancelled=cancelled.is_set())
        state = self._record.finish(event, self._ledger.results, reason)
        level = "info" if state is RunState.SUCCEEDED else "error"
        self._teller.run("run-finished", reason or state.value, level=level, state=state.value)
        return self._ledger.result(self._record.run_id, state, reason)

    def _turn(self) -> bool:
        """One round of the loop; False once nothing runs, rests or waits, and nothing may start."""
        if self._ledger.failed:
            self._start_no_more()
        else:
            self._start_what_may()
        if not self._active and not self._waiting:
            return False
        self._listen()
        self._renew()
        self._record.beat(self._ledger.states(self._active), self._ledger.results)
        return True

    # What starts

    def _start_what_may(self) -> None:
        """First what has rested or waited, then what became free; never two on the cluster."""
        now = self._clock.monotonic()
        for active in list(self._active.values()):
            if not active.is_trying and active.rest_until <= now and self._has_room_for(active.step, resting=True):
                self._resume(active, now)
        for waiting in list(self._waiting.values()):
            if waiting.look_at <= now and self._has_room_for(waiting.step):
                self._claim(waiting.step)
        put_back = []
        while self._num_trying() < self._parallel and (step := self._schedule.pop()):
            if self._has_room_for(step):
                self._claim(step)
            else:
                put_back.append(step)
        for step in put_back:
            self._schedule.put_back(step.stage.name)

    def _start_no_more(self) -> None:
        """After a failure: what runs may end, what rests or waits is given up."""
        self._waiting.clear()
        for active in [a for a in self._active.values() if not a.is_trying]:
            failure = active.lease.record.failure
            assert failure is not None, "only a failed attempt rests"
            try:
                self._fail(active, failure)
            except LeaseLost as lost:
                self._lose(active, lost)

    def _num_trying(self) -> int:
        return sum(active.is_trying for active in self._active.values())

    def _has_room_for(self, step: Step, *, resting: bool = False) -> bool:
        others = [active for active in self._active.values() if active.step is not step]
        alone = step.stage.on_cluster and any(active.step.stage.on_cluster for active in others)
        return self._num_trying() < self._parallel and not alone and (not resting or self._ledger.has_parents(step))

    def _claim(self, step: Step) -> None:
        name = step.stage.name
        answer = self._journal.claim(step, system=self._plan.system)
        if isinstance(answer, Held):
            self._wait_for(step, answer)
            return
        waited = self._waiting.pop(name, None)
        if isinstance(answer, StepRecord):
            reason = f"made by run {answer.run_id}" + (" while this one waited" if waited else "")
            if not self._shelf.take(step, answer, reason=reason):
                self._schedule.put_back(name)
            return
        if answer.record.is_damaged:
            self._shelf.clear(step, answer.record.reason)
        active = self._active[name] = Active(step, answer, renewed_at=self._clock.monotonic())
        self._try(active)

    def _wait_for(self, step: Step, held: Held) -> None:
        before = self._waiting.get(step.stage.name)
        if before is None or before.reason != held.reason:
            self._teller.step(step, "waiting", held.reason)
        self._waiting[step.stage.name] = _Waiting(step, held.reason, self._clock.monotonic() + LOOK_S)

    def _try(self, active: Active) -> None:
        reason, attempt = self._ledger.reasons[active.name], active.lease.record.attempts
        self._teller.step(active.step, "running", reason, attempt=attempt)
        self._crew.start(active, self._ledger.parents(active.step))

    # What comes back

    def _listen(self) -> None:
        """Waits a moment for news and takes all that there is; sleeps when nothing runs that could send any."""
        if self._num_trying() == 0:
            self._clock.sleep(LOOK_S)
            return
        for active, news in self._crew.news(LOOK_S):
            if isinstance(news, News):
                self._teller.news(active.step, active.lease.record.attempts, news)
                continue
            try:
                self._settle(active, news)
            except LeaseLost as lost:
                self._lose(active, lost)

    def _settle(self, active: Active, outcome: Outcome) -> None:
        if active.is_lost:
            self._let_go(active)
        elif isinstance(outcome, Published):
            self._complete(active, outcome)
        elif isinstance(outcome, Damaged):
            self._repair(active, outcome)
        elif outcome.shortage and self._may_pause(active):
            self._pause(active, outcome)
        elif active.may_retry(outcome):
            self._rest(active, outcome)
        else:
            self._fail(active, outcome)

    def _complete(self, active: Active, published: Published) -> None:
        step = active.step
        active.lease = self._journal.complete(
            active.lease,
            step,
            manifest_digest=published.manifest_digest,
            seconds=published.seconds,
            summary=published.summary,
        )
        del self._active[active.name]
        self._attempts.clear_scratch(step.fingerprint)
        self._ledger.done(step, active.lease.record, cached=False, reason=self._ledger.reasons[active.name])
        self._schedule.finish(active.name)
        self._teller.step(step, "done", f"took {published.seconds:.3g} s", seconds=published.seconds)

    def _rest(self, active: Active, failure: Failure) -> None:
        delay_s = rest_s(active.step.fingerprint, active.lease.record.attempts)
        active.lease = self._journal.retry(active.lease, replace(failure, trace=""))
        active.rest_until = self._clock.monotonic() + delay_s
        message = f"{failure.reason}; tries again in {delay_s:.1f} s"
        self._teller.step(active.step, "waiting", message, level="warning", trace=failure.trace)

    def _may_pause(self, active: Active) -> bool:
        return active.pause_ends_at is None or self._clock.monotonic() < active.pause_ends_at

    def _pause(self, active: Active, failure: Failure) -> None:
        """Waits, lease in hand and at no cost in retries, until the disk that was full has more room."""
        now = self._clock.monotonic()
        active.lease = self._journal.retry(active.lease, replace(failure, trace=""))
        active.pause_ends_at = active.pause_ends_at or now + PAUSE_S
        active.rest_until = now + LOOK_AT_DISK_S
        self._teller.step(active.step, "waiting", f"{failure.message}; {failure.shortage}", level="warning")

    def _resume(self, active: Active, now: float) -> None:
        failure = active.lease.record.failure
        if failure is None or failure.shortage is None or self._attempts.has_room(failure.shortage):
            self._try(active)
        elif self._may_pause(active):
            active.rest_until = now + LOOK_AT_DISK_S
        else:
            self._fail(active, failure)

    def _fail(self, active: Active, failure: Failure) -> None:
        active.lease = self._journal.fail(active.lease, replace(failure, trace=""))
        del self._active[active.name]
        self._ledger.unfinished(active.step, StepState.FAILED, failure.reason, failure)
        self._teller.step(active.step, "failed", failure.reason, level="error", trace=failure.trace)

    def _repair(self, active: Active, damaged: Damaged) -> None:
        """Puts the step aside and has the parent made again, a few times at most."""
        count = self._num_repairs[damaged.name] = self._num_repairs.get(damaged.name, 0) + 1
        if count > MOST_REPAIRS:
            remedy = "check the disk on which the artifacts are"
            self._fail(active, Failure(ArtifactCorrupt.__name__, damaged.reason, remedy, final=True))
            return
        active.lease = self._journal.cancel(active.lease, f"the artifact of {damaged.name} is damaged")
        del self._active[active.name]
        if self._ledger.is_current(damaged.name, damaged.parent):  # else another child has found it first
            self._attempts.forget(self._ledger.undone(damaged.name))
            parent = next(step for step in self._plan.steps if step.stage.name == damaged.name)
            self._shelf.invalidate(parent, damaged.reason)
            self._schedule.reopen(damaged.name)
        self._schedule.put_back(active.name)

    # Leases

    def _renew(self) -> None:
        now = self._clock.monotonic()
        for active in list(self._active.values()):
            if active.is_lost or now - active.renewed_at < RENEW_S:
                continue
            try:
                active.lease = self._journal.renew(active.lease)
                active.renewed_at = now
            except LeaseLost as lost:
                self._lose(active, lost)

    def _lose(self, active: Active, lost: LeaseLost) -> None:
        """Another run has the step: ours ends without a word to the journal, and waits for the other's result."""
        self._teller.step(active.step, "waiting", lost.message, level="warning")
        active.is_lost = True
        active.stop.set()
        if not active.is_trying:
            self._let_go(active)

    def _let_go(self, active: Active) -> None:
        self._active.pop(active.name, None)
        self._schedule.put_back(active.name)

    def _stop(self, reason: str) -> None:
        """Ends every attempt and gives every lease back, so that the next run need not wait for it to run out."""
        for active, published in self._crew.stop(list(self._active.values())):
            with suppress(LeaseLost):
                self._complete(active, published)
        for active in self._active.values():
            self._ledger.unfinished(active.step, StepState.CANCELLED, reason)
            with suppress(LeaseLost):
                self._journal.cancel(active.lease, reason)
        ended, self._active = self._active, {}
        for active in ended.values():
            self._teller.step(active.step, "cancelled", reason)
