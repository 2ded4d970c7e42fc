import itertools

import pytest

from platformops.clock import ManualClock
from platformops.errors import InvalidTransition, LeaseLost
from platformops.machine import advance, terminal
from platformops.pipeline.journal import (
    LEASE_S,
    MOST_SKEW_S,
    STEP,
    Held,
    Journal,
    Lease,
    StepRecord,
    read_record,
    write_record,
)
from platformops.pipeline.plan import make_plan
from platformops.pipeline.records import Failure, Plan, RunEvent, RunState, Stage, StepEvent, StepState
from platformops.pipeline.runs import RUN, RunRecord, settle_abandoned
from platformops.store.memory import MemoryStore
from tests.pipeline.test_plan import FixedIdentity
from tests.pipeline.workshop import ME, OTHER

STEP_ONE = make_plan("demo", [Stage("one", "m:f")], identity=FixedIdentity()).steps[0]


class Desk:
    """Two owners at one store; what each knows of the other is set by the test."""

    def __init__(self):
        self.store, self.clock, self.alive = MemoryStore(), ManualClock(), {}
        self.mine, self.theirs = self.journal(ME, "run-1"), self.journal(OTHER, "run-2")

    def journal(self, owner, run_id, clock=None):
        alive = self.alive.get
        return Journal(self.store, clock=clock or self.clock, owner=owner, run_id=run_id, is_alive=lambda o: alive(o))

    def state(self):
        return self.mine.look(STEP_ONE.fingerprint).state


@pytest.fixture
def desk():
    return Desk()


def claim(journal):
    return journal.claim(STEP_ONE, system="demo")


def complete(journal, lease):
    return journal.complete(lease, STEP_ONE, manifest_digest="d", seconds=1.5, summary={"a": 1})


@pytest.mark.parametrize(("state", "event"), list(itertools.product(StepState, StepEvent)))
def test_a_step_takes_what_the_table_says_and_nothing_else(state, event):
    if (state, event) in STEP:
        assert advance(STEP, state, event, subject="step") is STEP[state, event]
    else:
        with pytest.raises(InvalidTransition):
            advance(STEP, state, event, subject="step")


@pytest.mark.parametrize(("state", "event"), list(itertools.product(RunState, RunEvent)))
def test_a_run_ends_once(state, event):
    assert ((state, event) in RUN) == (state is RunState.RUNNING)
    assert terminal(RUN) == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


def test_a_free_step_is_claimed_and_its_record_says_by_whom(desk):
    lease = claim(desk.mine)
    assert isinstance(lease, Lease)
    assert (lease.record.state, lease.record.token, lease.record.owner) == (StepState.RUNNING, 1, ME)
    assert lease.record.expires_at == desk.clock.now() + LEASE_S


def test_a_record_survives_the_way_through_the_store(desk):
    failure = Failure("Kind", "message", "remedy", True, "trace")
    record = StepRecord("demo", "one", StepState.FAILED, 3, ME, 5.0, "r", 2, "d", 1.5, {"a": [1]}, failure, "why")
    desk.store.put("step/x", write_record(record), expect=None)
    assert read_record(desk.store.get("step/x").value) == record


def test_a_held_step_says_who_runs_it(desk):
    claim(desk.theirs)
    held = claim(desk.mine)
    assert isinstance(held, Held)
    assert "process 2 on there is running it (run run-2" in held.reason


def test_a_finished_step_gives_its_record_to_everybody(desk):
    complete(desk.mine, claim(desk.mine))
    record = claim(desk.theirs)
    assert isinstance(record, StepRecord)
    assert (record.manifest_digest, record.seconds, record.summary) == ("d", 1.5, {"a": 1})
    assert record.owner is None


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_a_failed_or_cancelled_step_can_be_claimed_again_with_a_higher_token(desk, end):
    lease = claim(desk.mine)
    desk.mine.fail(lease, Failure("E", "no")) if end == "fail" else desk.mine.cancel(lease, "stopped")
    again = claim(desk.theirs)
    assert again.record.token == 2
    assert again.record.failure is None


def test_the_step_of_a_dead_process_is_taken_over_at_once(desk):
    claim(desk.theirs)
    desk.alive[OTHER] = False
    lease = claim(desk.mine)
    assert (lease.record.token, lease.record.owner) == (2, ME)


@pytest.mark.parametrize("alive", [None, True])
def test_a_silent_owner_is_given_its_whole_lease_and_no_more(desk, alive):
    claim(desk.theirs)
    desk.alive[OTHER] = alive
    assert isinstance(claim(desk.mine), Held)
    desk.clock.sleep(LEASE_S - 0.1)
    assert isinstance(claim(desk.mine), Held)
    desk.clock.sleep(0.2)
    assert isinstance(claim(desk.mine), Lease)


def test_an_owner_that_renews_is_never_taken_over(desk):
    lease = claim(desk.theirs)
    for _ in range(20):
        assert isinstance(claim(desk.mine), Held)
        desk.clock.sleep(LEASE_S / 2)
        lease = desk.theirs.renew(lease)


def test_a_wrong_clock_of_the_other_machine_takes_no_lease_from_it(desk):
    behind = ManualClock(desk.clock.now() - 30.0)  # its leases look as if they ran out 15 s ago
    claim(desk.journal(OTHER, "run-2", clock=behind))
    assert isinstance(claim(desk.mine), Held)


def test_a_lease_that_ran_out_long_ago_is_taken_over_without_waiting(desk):
    claim(desk.theirs)
    desk.clock.sleep(LEASE_S + MOST_SKEW_S + 1)
    assert isinstance(claim(desk.mine), Lease)


@pytest.mark.parametrize("write", ["renew", "retry", "complete", "fail", "cancel"])
def test_a_stale_writer_is_refused_by_its_token_and_changes_nothing(desk, write):
    stale = claim(desk.theirs)
    desk.alive[OTHER] = False
    fresh = claim(desk.mine)
    writes = {
        "renew": lambda: desk.theirs.renew(stale),
        "retry": lambda: desk.theirs.retry(stale, Failure("E", "no")),
        "complete": lambda: complete(desk.theirs, stale),
        "fail": lambda: desk.theirs.fail(stale, Failure("E", "no")),
        "cancel": lambda: desk.theirs.cancel(stale, "no"),
    }
    with pytest.raises(LeaseLost, match="token 1 was overtaken by process 1 on here with token 2"):
        writes[write]()
    assert desk.mine.look(STEP_ONE.fingerprint) == fresh.record
    assert desk.store.get("latest/demo/one") is None


def test_done_and_what_the_next_plan_compares_to_are_written_together(desk):
    complete(desk.mine, claim(desk.mine))
    assert desk.store.get("latest/demo/one").value["fingerprint"] == STEP_ONE.fingerprint


def test_retries_are_counted_under_one_claim(desk):
    lease = desk.mine.retry(claim(desk.mine), Failure("E", "no"))
    assert (lease.record.attempts, lease.record.token, lease.record.failure.message) == (2, 1, "no")


def test_an_invalidated_step_is_claimed_as_damaged_until_it_is_made_again(desk):
    complete(desk.mine, claim(desk.mine))
    desk.mine.invalidate(STEP_ONE.fingerprint, "a byte changed")
    assert desk.state() is StepState.PENDING
    lease = claim(desk.theirs)
    assert (lease.record.is_damaged, lease.record.reason) == (True, "a byte changed")
    desk.theirs.cancel(lease, "stopped")
    lease = claim(desk.mine)
    assert lease.record.is_damaged, "whoever makes it has to move the bad copy aside first"
    assert not complete(desk.mine, lease).record.is_damaged


def test_invalidating_what_is_not_done_changes_nothing(desk):
    desk.mine.invalidate(STEP_ONE.fingerprint, "x")
    lease = claim(desk.mine)
    desk.theirs.invalidate(STEP_ONE.fingerprint, "x")
    assert desk.mine.look(STEP_ONE.fingerprint) == lease.record


def test_two_runs_in_one_instant_have_two_records(desk):
    plan = Plan("demo", (STEP_ONE,))
    runs = {RunRecord(desk.store, plan, clock=desk.clock, owner=ME).run_id for _ in range(3)}
    assert len(runs) == 3


def test_a_run_beats_no_oftener_than_it_must(desk):
    record = RunRecord(desk.store, Plan("demo", (STEP_ONE,)), clock=desk.clock, owner=ME)
    record.figures = {"one": {"loss": 0.5}}
    for _ in range(100):
        desk.clock.sleep(0.1)
        record.beat({"one": StepState.RUNNING}, {})
    entry = desk.store.get(f"run/{record.run_id}")
    assert entry.version == 1 + 3
    assert entry.value["steps"][0]["state"] == "running"
    assert entry.value["steps"][0]["figures"] == {"loss": 0.5}
    assert entry.value["heartbeat_at"] > entry.value["started_at"]


def test_a_run_whose_process_is_dead_does_not_say_running_for_ever(desk):
    dead = RunRecord(desk.store, Plan("demo", (STEP_ONE,)), clock=desk.clock, owner=OTHER)
    unknown = RunRecord(desk.store, Plan("demo", (STEP_ONE,)), clock=desk.clock, owner=ME)
    settle_abandoned(desk.store, clock=desk.clock, is_alive=lambda owner: False if owner == OTHER else None)
    value = desk.store.get(f"run/{dead.run_id}").value
    assert (value["state"], value["reason"].partition(";")[0]) == ("failed", "its process ended without a word")
    assert desk.store.get(f"run/{unknown.run_id}").value["state"] == "running"
