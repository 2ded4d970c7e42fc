import errno
import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platformops.errors import PlatformError, StoreUnavailable
from platformops.pipeline import attempt
from platformops.pipeline.journal import LEASE_S, Held, Journal
from platformops.pipeline.preview import explain
from platformops.pipeline.records import Failure, RunState, Stage, StepState
from platformops.pipeline.runner import exit_code
from platformops.pipeline.shortage import PAUSE_S
from platformops.pipeline.wire import CRASHED, STOPPED, Returned
from platformops.store.room import Disk
from tests.pipeline.test_plan import dags
from tests.pipeline.workshop import OTHER, workshop_at

STAGES = """
from platformops.errors import DataRefused, UserError

def make(context, text="x"):
    (context.output / "a.txt").write_text(text)
    return {"length": len(text)}

def join(context):
    texts = [(folder / "a.txt").read_text() for _, folder in sorted(context.inputs.items())]
    (context.output / "a.txt").write_text("+".join(texts))

def fail(context):
    raise ValueError("no rows")

def refuse(context):
    raise DataRefused("too many bad rows", remedy="raise the limit")

def full(context):
    with open("/dev/full", "w") as file:
        file.write("x" * 100000)

def full_once(context):
    tried = context.scratch / "tried"
    if not tried.exists():
        tried.touch()
        full(context)

def count(context):
    path = context.scratch / "tries"
    tries = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(tries))
    if tries < 3:
        raise ValueError(f"try {tries}")
    return {"tries": tries}

def forever(context):
    while True:
        context.progress(None, "still at it")

def tells(context):
    context.progress(0.5, "half", loss=0.75)
    context.progress(1.0, "whole", rate=3.0)

def edit_data(context):
    (context.root / "rows.csv").write_text("changed")
"""
MAKE = Stage("make", "stages:make")
JOIN = Stage("join", "stages:join", needs=("make",))


@pytest.fixture
def shop(shop):
    shop.write("stages.py", STAGES)
    shop.write("rows.csv", "1\n")
    return shop


def states(result):
    return {step.name: step.state.value for step in result.steps}


def text(shop, result, name):
    step = next(step for step in result.steps if step.name == name)
    return (shop.artifacts.open(step.fingerprint, step.manifest_digest) / "a.txt").read_text()


def staged(shop):
    return list((shop.home.root / "artifacts" / ".staging").glob("*"))


def test_a_plan_runs_to_its_end_and_artifacts_flow_along_its_edges(shop):
    other = Stage("other", "stages:make", params={"text": "yy"})
    both = Stage("both", "stages:join", needs=("make", "other"))
    result = shop.run(shop.plan(MAKE, other, both))
    assert result.state is RunState.SUCCEEDED
    assert text(shop, result, "both") == "x+yy"
    assert result.steps[1].summary == {"length": 2}
    assert all(not step.cached for step in result.steps)
    assert exit_code(result) == 0


def test_running_again_runs_nothing_and_gives_the_same_results(shop):
    first = shop.run(shop.plan(MAKE, JOIN))
    again = shop.run(shop.plan(MAKE, JOIN))
    assert shop.launcher.ran == ["make", "join"]
    assert all(step.cached for step in again.steps)
    assert [(s.fingerprint, s.manifest_digest, s.seconds, s.summary) for s in again.steps] == [
        (s.fingerprint, s.manifest_digest, s.seconds, s.summary) for s in first.steps
    ]


def test_only_what_changed_runs_and_the_reason_is_said(shop):
    shop.run(shop.plan(MAKE, JOIN))
    changed = Stage("make", "stages:make", params={"text": "zz"})
    result = shop.run(shop.plan(changed, JOIN))
    assert text(shop, result, "join") == "zz"
    assert [step.reason for step in result.steps] == ["params.text is new: 'zz'", "parent make changed"]
    back = shop.run(shop.plan(MAKE, JOIN))
    assert all(step.cached for step in back.steps)


def test_a_failing_stage_ends_the_run_and_says_where_and_why(shop):
    result = shop.run(shop.plan(Stage("make", "stages:fail"), JOIN))
    assert states(result) == {"make": "failed", "join": "pending"}
    assert result.steps[0].reason.startswith("ValueError: no rows (stages.py:")
    assert result.steps[1].reason == "not started: make failed"
    assert result.reason.startswith("make: ValueError: no rows")
    assert (result.state, exit_code(result)) == (RunState.FAILED, 1)
    assert shop.record(result, "make")["state"] == "failed"
    assert staged(shop) == []


def test_the_trace_is_in_the_log_and_not_in_the_reason(shop):
    result = shop.run(shop.plan(Stage("make", "stages:fail")))
    assert "Traceback" not in result.reason
    failed = next(line for line in shop.log(result) if line["event.action"] == "step-failed")
    assert "Traceback" in failed["platformops.trace"]


def test_a_refusal_keeps_its_class_message_and_remedy_and_is_not_tried_again(shop):
    result = shop.run(shop.plan(Stage("make", "stages:refuse", retries=5)))
    failure = result.steps[0].failure
    assert (failure.kind, failure.message, failure.remedy) == ("DataRefused", "too many bad rows", "raise the limit")
    assert shop.launcher.ran == ["make"]
    assert exit_code(result) == 1


def test_a_user_error_ends_with_the_exit_code_of_its_class(shop):
    shop.launcher.script["make"] = [Failure("AppError", "no", final=True)]
    assert exit_code(shop.run(shop.plan(MAKE))) == 2


def test_a_stage_is_tried_again_with_growing_rests_and_keeps_its_scratch(shop):
    begin = shop.clock.now()
    result = shop.run(shop.plan(Stage("count", "stages:count", retries=2)))
    assert (result.state, result.steps[0].summary) == (RunState.SUCCEEDED, {"tries": 3})
    assert 1.5 <= shop.clock.now() - begin <= 4.0
    assert shop.record(result, "count")["attempts"] == 3
    assert not (shop.home.scratch / result.steps[0].fingerprint).exists()


def test_scratch_of_a_run_that_was_killed_right_after_its_step_was_done_is_removed_by_the_next(shop):
    result = shop.run(shop.plan(MAKE))
    left = shop.home.scratch / result.steps[0].fingerprint
    left.mkdir(parents=True)
    (left / "checkpoint").write_text("large")
    assert shop.run(shop.plan(MAKE)).steps[0].cached
    assert not left.exists()


def test_attempts_that_are_used_up_fail_the_step_and_keep_its_scratch(shop):
    result = shop.run(shop.plan(Stage("count", "stages:count", retries=1)))
    assert result.state is RunState.FAILED
    assert "try 2" in result.reason
    assert (shop.home.scratch / result.steps[0].fingerprint / "tries").read_text() == "2"
    assert shop.run(shop.plan(Stage("count", "stages:count", retries=1))).state is RunState.SUCCEEDED


def test_a_crash_of_the_worker_costs_no_retry_a_few_times(shop):
    crash = Failure(CRASHED, "its process was ended by SIGKILL")
    shop.launcher.script["make"] = [crash, crash]
    assert shop.run(shop.plan(MAKE)).state is RunState.SUCCEEDED
    shop.launcher.script["join"] = [crash, crash, crash]
    result = shop.run(shop.plan(MAKE, JOIN))
    assert (states(result)["join"], result.steps[1].failure.kind) == ("failed", CRASHED)


def test_a_timeout_is_a_failed_attempt(shop):
    result = shop.run(shop.plan(Stage("forever", "stages:forever", timeout_s=5.0, retries=1)))
    assert "took longer than its timeout_s of 5 s" in result.reason
    assert shop.launcher.ran == ["forever", "forever"]


@pytest.fixture
def disk(monkeypatch):
    """The only disk there is: how much of it is free is said by the test."""

    class Free:
        bytes = 50_000_000

    monkeypatch.setattr(attempt, "disk_of", lambda path: Disk(Path("/"), Free.bytes, 100_000_000, None))
    monkeypatch.setattr(attempt, "fullest", lambda paths: Disk(Path("/"), Free.bytes, 100_000_000, None))
    return Free


def waits(shop, do):
    """Calls `do` with each message of a step that waits."""

    def told(progress):
        shop.progress.append(progress)
        if progress.state == "waiting":
            do(progress.message)

    return told


def test_a_stage_on_a_full_disk_waits_for_room_and_costs_no_retry(shop, disk):
    def make_room(message):
        assert "goes on by itself once 1.0 MB or more are freed there" in message
        assert staged(shop) == [], "what was half written is gone, and with it the space it took"
        looked_at = len(shop.launcher.ran)
        shop.clock.sleep(10)
        assert len(shop.launcher.ran) == looked_at
        disk.bytes += 2_000_000

    result = shop.run(shop.plan(Stage("full", "stages:full_once")), on_progress=waits(shop, make_room))
    assert result.state is RunState.SUCCEEDED
    assert shop.launcher.ran == ["full", "full"]


def test_a_stage_that_nobody_makes_room_for_fails_after_a_day_and_says_which_disk(shop, disk):
    result = shop.run(
        shop.plan(Stage("full", "stages:full", retries=5)), on_progress=waits(shop, lambda _: shop.clock.sleep(PAUSE_S))
    )
    assert result.steps[0].failure.kind == "DiskFull"
    assert "free some space" in result.reason
    assert shop.launcher.ran == ["full"]
    assert shop.record(result, "full")["failure"]["shortage"]["free_bytes"] == disk.bytes


def test_a_disk_that_is_full_while_publishing_is_waited_for_as_well(shop, disk, monkeypatch):
    publish, full = shop.artifacts.publish, [True]

    def once(fingerprint, staging):
        if full.pop() if full else False:
            raise PlatformError("artifacts: the disk is full", remedy="free space") from OSError(errno.ENOSPC, "full")
        return publish(fingerprint, staging)

    def make_room(message):
        assert staged(shop) == []
        disk.bytes += 2_000_000

    monkeypatch.setattr(shop.artifacts, "publish", once)
    result = shop.run(shop.plan(MAKE), on_progress=waits(shop, make_room))
    assert (result.state, shop.launcher.ran) == (RunState.SUCCEEDED, ["make", "make"])


def test_a_run_that_waits_for_room_can_be_cancelled(shop, disk):
    cancelled = threading.Event()
    result = shop.run(
        shop.plan(Stage("full", "stages:full")), cancelled=cancelled, on_progress=waits(shop, lambda _: cancelled.set())
    )
    assert (result.state, states(result)["full"]) == (RunState.CANCELLED, "cancelled")


def test_what_a_stage_tells_of_itself_last_stays_in_the_record_of_the_run(shop):
    result = shop.run(shop.plan(Stage("tells", "stages:tells")))
    (step,) = shop.store.get(f"run/{result.run_id}").value["steps"]
    assert step["figures"] == {"rate": 3.0}


def test_cancelling_ends_what_runs_and_the_next_run_goes_on(shop):
    cancelled = threading.Event()
    result = shop.run(
        shop.plan(MAKE, Stage("forever", "stages:forever", needs=("make",)), JOIN),
        cancelled=cancelled,
        on_progress=lambda p: cancelled.set() if p.message == "still at it" else None,
    )
    assert (states(result)["make"], states(result)["forever"]) == ("done", "cancelled")
    assert (result.state, exit_code(result)) == (RunState.CANCELLED, 130)
    assert shop.record(result, "forever")["state"] == "cancelled"
    assert shop.store.get(f"run/{result.run_id}").value["state"] == "cancelled"
    assert staged(shop) == []
    assert shop.run(shop.plan(MAKE, JOIN)).state is RunState.SUCCEEDED


def test_cancelling_before_the_start_starts_nothing(shop):
    cancelled = threading.Event()
    cancelled.set()
    result = shop.run(shop.plan(MAKE), cancelled=cancelled)
    assert (result.state, shop.launcher.ran) == (RunState.CANCELLED, [])


def test_an_error_of_the_run_itself_gives_the_leases_back(shop):
    def broken(progress):
        raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError):
        shop.run(shop.plan(MAKE), on_progress=broken)
    (run,) = shop.store.scan("run/")
    assert (run.value["state"], run.value["reason"]) == ("failed", "the run ended early: RuntimeError")
    assert shop.run(shop.plan(MAKE)).state is RunState.SUCCEEDED


def test_a_store_that_fails_ends_the_run_with_its_error(shop):
    class Failing:
        def __init__(self, store):
            self._store, self.is_broken = store, False

        def __getattr__(self, name):
            if self.is_broken and name in ("put", "commit"):
                raise StoreUnavailable("the disk is full")
            return getattr(self._store, name)

    store = Failing(shop.store)
    plan = shop.plan(MAKE)

    def on_progress(progress):
        store.is_broken = True

    with pytest.raises(StoreUnavailable):
        shop.run(plan, store=store, on_progress=on_progress)


# Artifacts that were damaged


def damage(shop, result, name):
    step = next(step for step in result.steps if step.name == name)
    path = shop.home.root / "artifacts" / step.fingerprint / "files" / "a.txt"
    path.chmod(0o600)
    path.write_text("tampered")


def test_a_damaged_input_is_moved_aside_and_made_again(shop):
    damage(shop, shop.run(shop.plan(MAKE)), "make")
    result = shop.run(shop.plan(MAKE, JOIN))
    assert text(shop, result, "join") == "x"
    assert not result.steps[0].cached
    assert "a.txt" in result.steps[0].reason
    assert shop.launcher.ran == ["make", "make", "join"]
    assert len(list((shop.home.root / "artifacts" / ".quarantine").glob("*/artifact"))) == 1


def test_a_damaged_artifact_that_the_caller_will_open_is_made_again(shop):
    first = shop.run(shop.plan(MAKE, JOIN))
    damage(shop, first, "join")
    assert all(step.cached for step in shop.run(shop.plan(MAKE, JOIN)).steps)
    result = shop.run(shop.plan(MAKE, JOIN), verify=("join",))
    assert [step.cached for step in result.steps] == [True, False]
    assert text(shop, result, "join") == "x"


def test_an_artifact_that_is_gone_is_made_again_with_the_reason(shop):
    first = shop.run(shop.plan(MAKE, JOIN))
    shop.artifacts.quarantine(first.steps[0].fingerprint, "test")
    result = shop.run(shop.plan(MAKE, JOIN))
    assert [(step.cached, step.reason) for step in result.steps] == [(False, "its artifact is gone"), (True, "")]


def test_a_swapped_artifact_with_a_manifest_of_its_own_is_not_taken(shop):
    first = shop.run(shop.plan(MAKE))
    step = first.steps[0]
    shop.artifacts.quarantine(step.fingerprint, "test")
    staging = shop.artifacts.staging(step.fingerprint)
    (staging / "a.txt").write_text("forged")
    shop.artifacts.publish(step.fingerprint, staging)
    result = shop.run(shop.plan(MAKE, JOIN))
    assert text(shop, result, "join") == "x"


def test_a_disk_that_damages_again_and_again_ends_the_run(shop, monkeypatch):
    real = shop.artifacts.publish

    def publish(fingerprint, staging):
        digest = real(fingerprint, staging)
        path = shop.home.root / "artifacts" / fingerprint / "files" / "a.txt"
        path.chmod(0o600)
        path.write_text("rotten")
        return digest

    monkeypatch.setattr(shop.artifacts, "publish", publish)
    result = shop.run(shop.plan(MAKE, JOIN))
    assert (result.state, result.steps[1].failure.kind) == (RunState.FAILED, "ArtifactCorrupt")
    assert shop.launcher.ran == ["make", "make", "make"]


# Code and data that changed meanwhile


def test_code_that_was_edited_after_the_plan_is_refused(shop):
    plan = shop.plan(MAKE)
    shop.write("stages.py", STAGES.replace("len(text)", "len(text) + 1"))
    result = shop.run(plan)
    assert "the code of stages changed after the plan was made" in result.reason
    assert (exit_code(result), shop.launcher.ran) == (2, [])


def test_data_that_changed_while_the_step_read_it_fails_the_step(shop):
    result = shop.run(shop.plan(Stage("edit", "stages:edit_data", sources=("rows.csv",), retries=3)))
    assert result.steps[0].failure.kind == "DataRefused"
    assert "rows.csv changed while the step ran" in result.reason
    assert not shop.artifacts.exists(result.steps[0].fingerprint)


# Other runs


def other_journal(shop):
    return Journal(shop.store, clock=shop.clock, owner=OTHER, run_id="other-run", is_alive=lambda owner: None)


def publish_as_other(shop, lease, step, text="x"):
    staging = shop.artifacts.staging(step.fingerprint)
    (staging / "a.txt").write_text(text)
    digest = shop.artifacts.publish(step.fingerprint, staging)
    other_journal(shop).complete(lease, step, manifest_digest=digest, seconds=7.0, summary={"by": "other"})


def test_a_step_of_another_run_is_waited_for_and_its_result_taken(shop):
    plan = shop.plan(MAKE, JOIN)
    lease = other_journal(shop).claim(plan.steps[0], system="demo")

    def on_progress(progress):
        shop.progress.append(progress)
        if (progress.stage, progress.state) == ("make", "waiting"):
            publish_as_other(shop, lease, plan.steps[0])

    result = shop.run(plan, on_progress=on_progress)
    waiting = next(p for p in shop.progress if p.state == "waiting")
    assert "process 2 on there is running it (run other-run" in waiting.message
    assert shop.launcher.ran == ["join"]
    assert (result.steps[0].cached, result.steps[0].summary) == (True, {"by": "other"})
    assert result.steps[0].reason == "made by run other-run while this one waited"


def test_a_step_whose_owner_went_silent_is_taken_over_after_its_lease(shop):
    plan = shop.plan(MAKE)
    other_journal(shop).claim(plan.steps[0], system="demo")
    begin = shop.clock.now()
    assert shop.run(plan).state is RunState.SUCCEEDED
    assert LEASE_S <= shop.clock.now() - begin < LEASE_S + 1


def test_a_step_whose_owner_died_here_is_taken_over_at_once(shop):
    plan = shop.plan(MAKE)
    other_journal(shop).claim(plan.steps[0], system="demo")
    shop.alive[OTHER] = False
    begin = shop.clock.now()
    assert shop.run(plan).state is RunState.SUCCEEDED
    assert shop.clock.now() == begin


def test_a_run_that_lost_its_lease_writes_nothing_and_takes_the_new_owners_result(shop):
    """A runner that was paused for longer than its lease: the other takes the step over while ours still runs."""
    plan = shop.plan(Stage("slow", "stages:make"))
    step = plan.steps[0]
    real = shop.launcher.run

    def paused(request, *, stop, on_news):
        thief = other_journal(shop)
        assert isinstance(thief.claim(step, system="demo"), Held)
        shop.clock.sleep(LEASE_S + 1)
        publish_as_other(shop, thief.claim(step, system="demo"), step, "theirs")
        return real(request, stop=stop, on_news=on_news)

    shop.launcher.run = paused
    # The fake clock jumps a whole lease between two looks of the run: it cannot renew meanwhile.
    result = shop.run(plan)
    assert (text(shop, result, "slow"), result.steps[0].summary) == ("theirs", {"by": "other"})
    assert shop.record(result, "slow")["token"] == 2


# What runs together


class Parallel:
    """A launcher whose steps end only once the test lets them."""

    def __init__(self):
        self.running, self.gates, self.most, self.seen = set(), {}, 0, threading.Condition()

    def run(self, request, *, stop, on_news):
        gate = self.gates.setdefault(request.stage, threading.Event())
        with self.seen:
            self.running.add(request.stage)
            self.most = max(self.most, len(self.running))
            self.seen.notify_all()
        while not gate.wait(0.01):
            if stop.is_set():
                return Failure(STOPPED, "stopped")
        with self.seen:
            self.running.discard(request.stage)
            self.seen.notify_all()
        return Returned({}, 0.0)

    def wait_for(self, *names):
        with self.seen:
            assert self.seen.wait_for(lambda: self.running == set(names), timeout=60), self.running

    def let(self, *names):
        for name in names:
            self.gates.setdefault(name, threading.Event()).set()

    def close(self):
        pass


def in_background(shop, plan, launcher, **changes):
    results = []
    thread = threading.Thread(target=lambda: results.append(shop.run(plan, launcher=launcher, **changes)))
    thread.start()
    return thread, results


def test_independent_steps_run_together_up_to_the_limit(shop):
    launcher = Parallel()
    plan = shop.plan(*(Stage(name, "stages:make", params={"text": name}) for name in "abc"))
    thread, results = in_background(shop, plan, launcher, parallel=2)
    launcher.wait_for("a", "b")
    launcher.let("b")
    launcher.wait_for("a", "c")
    launcher.let("a", "c")
    thread.join(10)
    assert (results[0].state, launcher.most) == (RunState.SUCCEEDED, 2)


def test_two_steps_never_share_the_cluster_but_others_run_beside_it(shop):
    launcher = Parallel()
    plan = shop.plan(
        Stage("a", "stages:make", params={"text": "a"}, on_cluster=True),
        Stage("b", "stages:make", params={"text": "b"}, on_cluster=True),
        Stage("c", "stages:make", params={"text": "c"}),
    )
    thread, results = in_background(shop, plan, launcher, parallel=3)
    launcher.wait_for("a", "c")
    launcher.let("a")
    launcher.wait_for("b", "c")
    launcher.let("b", "c")
    thread.join(10)
    assert results[0].state is RunState.SUCCEEDED


def test_after_a_failure_what_runs_may_end_and_nothing_new_begins(shop):
    launcher = Parallel()
    real = launcher.run

    def run(request, *, stop, on_news):
        return Failure("E", "no") if request.stage == "bad" else real(request, stop=stop, on_news=on_news)

    launcher.run = run
    plan = shop.plan(
        Stage("good", "stages:make"), Stage("bad", "stages:make", params={"text": "b"}), Stage("later", "stages:make")
    )
    failed = threading.Event()
    thread, results = in_background(
        shop, plan, launcher, on_progress=lambda p: failed.set() if p.state == "failed" else None
    )
    assert failed.wait(10)
    launcher.let("good")
    thread.join(10)
    assert states(results[0]) == {"good": "done", "bad": "failed", "later": "pending"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stages=dags(), broken=st.sets(st.integers(0, 8), max_size=2))
def test_any_graph_with_any_failures_runs_each_step_once_over_all_runs(tmp_path_factory, stages, broken):
    shop = workshop_at(tmp_path_factory.mktemp("graph"))
    shop.write("m.py", "def f(context):\n    assert len(context.inputs) == len(list(context.inputs.values()))\n")
    names = sorted(stage.name for stage in stages)
    shop.launcher.script = {
        names[index]: [Failure("E", "no", final=True)] for index in broken if index < len(names)
    }  # fmt: skip
    plan = shop.plan(*stages)
    for _ in range(len(broken) + 1):
        result = shop.run(plan)
        if result.state is RunState.SUCCEEDED:
            break
    assert result.state is RunState.SUCCEEDED
    failed = [names[index] for index in broken if index < len(names)]
    assert sorted(shop.launcher.ran) == sorted([*names, *failed])
    assert all(preview.cached for preview in explain(plan, shop.store))


# What is told


def test_every_event_is_one_json_line_with_its_ids(shop):
    result = shop.run(shop.plan(Stage("forever", "stages:forever", timeout_s=3.0), MAKE), parallel=1)
    lines = shop.log(result)
    assert [line["event.action"] for line in lines][:2] == ["run-started", "step-running"]
    assert lines[-1]["event.action"] == "run-finished"
    assert {line["platformops.run"] for line in lines} == {result.run_id}
    step = next(line for line in lines if line["event.action"] == "step-running")
    assert step["platformops.stage"] == "forever"
    assert step["platformops.fingerprint"] == result.steps[0].fingerprint
    assert step["platformops.attempt"] == 1
    assert all(line["@timestamp"].endswith("+00:00") for line in lines)


def test_a_person_sees_each_step_start_move_and_end(shop):
    shop.run(shop.plan(Stage("forever", "stages:forever", timeout_s=3.0)))
    seen = [(p.state, p.message) for p in shop.progress]
    assert seen[0] == ("running", "never ran")
    assert ("running", "still at it") in seen
    assert seen[-1][0] == "failed"
    assert shop.progress[-1].elapsed_s >= 3.0


def test_the_run_record_tells_how_it_ended(shop):
    result = shop.run(shop.plan(MAKE, JOIN))
    value = shop.store.get(f"run/{result.run_id}").value
    assert (value["state"], [step["state"] for step in value["steps"]]) == ("succeeded", ["done", "done"])
    assert value["finished_at"] is not None
    assert json.dumps(value)


def test_an_unfinished_step_of_a_cancelled_run_is_not_called_failed(shop):
    cancelled = threading.Event()
    result = shop.run(
        shop.plan(Stage("forever", "stages:forever", retries=3)),
        cancelled=cancelled,
        on_progress=lambda p: cancelled.set(),
    )
    assert result.steps[0].state is StepState.CANCELLED


def test_a_log_that_cannot_be_written_ends_the_run_with_words(shop, monkeypatch):
    shop.home.root.mkdir(exist_ok=True)
    shop.home.logs.write_text("a file where the folder should be")
    with pytest.raises(PlatformError, match=r"log .*jsonl") as refused:
        shop.run(shop.plan(MAKE))
    assert "finished steps are kept" in refused.value.remedy
