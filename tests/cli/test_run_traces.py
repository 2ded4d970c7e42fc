"""The trace of a run reaches a receiver; a receiver that is not there harms no run."""

import pytest

from platformops.cli import run_traces
from platformops.clock import ManualClock
from platformops.gateway.trace_context import Traces
from platformops.on_ray.cluster import free_port
from platformops.pipeline.logbook import Logbook
from platformops.pipeline.spans import trace_id_of
from tests.otlp_receiver import receiving


@pytest.fixture
def log(tmp_path):
    clock = ManualClock()
    with Logbook(tmp_path, system="digits", run_id="r1", clock=clock) as book:
        book.write("run-started", "now")
        book.write("step-running", "", about={"stage": "train", "attempt": 1})
        clock.sleep(2.0)
        book.write("step-failed", "it broke", level="error", about={"stage": "train"})
        book.write("run-finished", "train failed", level="error")
        return book.path


@pytest.mark.real
def test_a_run_is_one_trace_with_a_span_an_attempt(log):
    with receiving() as (address, came):
        assert run_traces.send(Traces(address), log, "r1")
    assert {service for service, _ in came} == {"platformops-run"}
    spans = {span.name: span for _, span in came}
    assert {span.trace_id.hex() for span in spans.values()} == {trace_id_of("r1")}
    run, train = spans["run digits"], spans["stage train"]
    assert train.parent_span_id == run.span_id
    assert not run.parent_span_id
    assert train.end_time_unix_nano - train.start_time_unix_nano == 2_000_000_000
    assert train.status.message == "it broke"


@pytest.mark.real
def test_nobody_listens_and_the_run_goes_on(log):
    assert not run_traces.send(Traces(f"http://127.0.0.1:{free_port()}"), log, "r1")


def test_nothing_is_sent_without_an_endpoint(tmp_path):
    assert run_traces.send(Traces(), tmp_path / "missing.jsonl", "r1")
    assert run_traces.send(Traces("http://127.0.0.1:1"), tmp_path / "missing.jsonl", "r1")
