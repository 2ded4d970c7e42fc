"""Claiming, renewing, retrying, finishing, failing and undoing a step in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from platformops.clock import ManualClock
from platformops.pipeline.journal import Journal, Lease, StepRecord
from platformops.pipeline.records import Failure, Owner, Stage, Step, StepKey, StepState
from platformops.store.records import Store
from tests.faults.operations.on_store import no_store, store_in
from tests.faults.operations.record import Operation, Say

STEP = Step(Stage("a", "stages:step"), StepKey("a", {}, {}, {}, {}), "f1")


def journal_in(store: Store, pid: int) -> Journal:
    """Of a process that the others take for dead."""
    owner = Owner(host="here", machine="m", pid=pid, started=1)
    return Journal(store, clock=ManualClock(), owner=owner, run_id=f"r{pid}", is_alive=lambda _: False)


def claim(journal: Journal) -> Lease:
    lease = journal.claim(STEP, system="demo")
    assert isinstance(lease, Lease), lease
    return lease


def complete(journal: Journal, lease: Lease) -> Lease:
    return journal.complete(lease, STEP, manifest_digest="0" * 64, seconds=1.0, summary={"rows": 3})


def run_step(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 1)
        record = journal.look("f1")
        if record and record.state is StepState.DONE:
            say("done")
            return
        lease = claim(journal)
        say("claimed")
        lease = journal.retry(journal.renew(lease), Failure("OSError", "once"))
        say("retried")
        complete(journal, lease)
        say("done")


def check_step(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 2)
        record, latest = journal.look("f1"), store.get("latest/demo/a")
        state = record.state if record else None
        assert state in (None, StepState.RUNNING, StepState.DONE)
        assert (state is StepState.DONE) == (latest is not None), "one commit"
        if said:
            assert state is not None
        if "retried" in said:
            assert record is not None
            assert record.attempts == 2
        if "done" in said:
            assert state is StepState.DONE
        if state is not StepState.DONE:
            token = record.token if record else 0
            lease = claim(journal)
            assert lease.record.token == token + 1
            complete(journal, lease)
        assert isinstance(journal.claim(STEP, system="demo"), StepRecord), "and it is never run again"


def finished_step(folder: Path) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 1)
        complete(journal, claim(journal))


def undo_step(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 1)
        journal.invalidate("f1", "its artifact is gone")
        say("invalidated")
        found = journal.claim(STEP, system="demo")
        if isinstance(found, Lease):
            say("claimed")
            journal.fail(journal.renew(found), Failure("StageFailed", "no luck"))
            say("failed")


def check_undone(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 2)
        record = journal.look("f1")
        assert record is not None
        if "invalidated" in said:
            assert record.is_damaged
            assert record.state is not StepState.DONE
        if "failed" in said:
            assert record.state is StepState.FAILED
            assert record.failure is not None
        if record.state is not StepState.DONE:
            complete(journal, claim(journal))
        again = journal.look("f1")
        assert again is not None
        assert again.state is StepState.DONE
        assert not again.is_damaged


ON_JOURNAL = (
    Operation("journal of a step", no_store, run_step, check_step),
    Operation("journal of a step undone", finished_step, undo_step, check_undone),
)
