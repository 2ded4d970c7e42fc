"""A run's log as the spans of one trace."""

from datetime import UTC, datetime

import pytest

from platformops.clock import ManualClock
from platformops.pipeline.logbook import Logbook
from platformops.pipeline.spans import spans_of, trace_id_of


def line(at, action, *, level="info", message="", **about):
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    told = {f"platformops.{name}": value for name, value in about.items()}
    common = {"platformops.system": "digits", "platformops.run": "r1"}
    return {"@timestamp": moment, "log.level": level, "event.action": action, "message": message, **common, **told}


def test_a_run_is_above_its_attempts_and_each_ends_where_it_ended():
    spans = spans_of(
        [
            line(100.0, "run-started"),
            line(100.0, "step-cached", stage="prepare", fingerprint="f0"),
            line(101.0, "step-running", stage="train", fingerprint="f1", attempt=1),
            line(102.0, "step-progress", stage="train", fingerprint="f1", attempt=1),
            line(103.5, "step-waiting", level="warning", message="out of memory", stage="train", fingerprint="f1"),
            line(105.0, "step-running", stage="train", fingerprint="f1", attempt=2),
            line(109.0, "step-done", stage="train", fingerprint="f1"),
            line(110.0, "run-finished", message="succeeded", state="succeeded"),
        ]
    )
    assert [(s.name, s.began, s.ended, s.error) for s in spans] == [
        ("run digits", 100.0, 110.0, ""),
        ("stage train", 101.0, 103.5, "out of memory"),
        ("stage train", 105.0, 109.0, ""),
    ]
    assert spans[0].about == {"platformops.system": "digits", "platformops.run": "r1"}
    assert spans[2].about == {"platformops.run": "r1", "platformops.fingerprint": "f1", "platformops.attempt": 2}


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ([line(104.0, "step-failed", message="it broke", stage="train")], "it broke"),
        ([line(104.0, "step-cancelled", message="cancelled by a person", stage="train")], "cancelled by a person"),
        ([line(104.0, "step-output", stage="train")], "the log says no more of it"),
    ],
)
def test_what_did_not_end_well_says_why(ending, error):
    spans = spans_of([line(100.0, "run-started"), line(101.0, "step-running", stage="train", attempt=1), *ending])
    assert [(s.ended, s.error) for s in spans[1:]] == [(104.0, error)]
    assert spans[0].error == ending[0]["message"]


def test_an_empty_log_has_no_spans():
    assert spans_of([]) == ()


def test_the_lines_of_a_run_name_its_trace(tmp_path):
    with Logbook(tmp_path, system="digits", run_id="r1", clock=ManualClock()) as book:
        book.write("run-started", "now")
    assert f'"trace.id":"{trace_id_of("r1")}"' in (tmp_path / "r1.jsonl").read_text()
    assert trace_id_of("r1") != trace_id_of("r2")
    assert len(trace_id_of("r1")) == 32
