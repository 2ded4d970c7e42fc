"""What an app does in a replica is below the span of the call that it was done for."""

import json
import os
import subprocess
import sys

import pytest

from platformops.on_ray.replica_traces import MOST_LINKS, ReplicaTraces
from tests.otlp_receiver import receiving

FIRST, SECOND = f"00-{'a' * 32}-{'1' * 16}-01", f"00-{'b' * 32}-{'2' * 16}-01"
PROGRAM = """\
import json, sys
from platformops.on_ray.replica_traces import ReplicaTraces
traces = ReplicaTraces(revision="digits-r1")
from opentelemetry import trace
with traces.inside(json.loads(sys.argv[1]), 3):
    with trace.get_tracer("app").start_as_current_span("look up") as span:
        print(f"{span.get_span_context().trace_id:032x}")
"""


def ran(traces, **environment):
    """What the app's own span belongs to, in a process of its own: a process has one provider of spans."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(traces)], env=kept | environment, text=True, capture_output=True,
        timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.real
def test_spans_of_an_app_reach_the_receiver_below_the_call_and_name_all_requests_of_the_batch():
    with receiving() as (address, came):
        assert ran([FIRST, SECOND], OTEL_EXPORTER_OTLP_ENDPOINT=address) == "a" * 32
    assert {service for service, _ in came} == {"platformops-replica"}
    by_name = {span.name: span for _, span in came}
    assert set(by_name) == {"predict", "look up"}
    predict = by_name["predict"]
    assert (predict.trace_id.hex(), predict.parent_span_id.hex()) == ("a" * 32, "1" * 16)
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in predict.links] == [("b" * 32, "2" * 16)]
    assert by_name["look up"].parent_span_id == predict.span_id
    told = {a.key: a.value.string_value or a.value.int_value for a in predict.attributes}
    assert told == {"platformops.revision": "digits-r1", "platformops.call.items": 3}


@pytest.mark.real
def test_what_an_app_does_for_requests_that_are_not_traced_is_sent_nowhere():
    with receiving() as (address, came):
        ran([], OTEL_EXPORTER_OTLP_ENDPOINT=address)
    assert came == []


@pytest.mark.real
def test_without_an_endpoint_the_app_is_in_the_trace_all_the_same():
    assert ran([FIRST]) == "a" * 32


@pytest.mark.parametrize("traces", [(), ("nonsense",), ["00-" + "0" * 32 + "-" + "1" * 16 + "-01"]])
def test_a_call_that_is_not_traced_is_in_no_span(traces):
    from opentelemetry import trace

    with ReplicaTraces().inside(traces, 1):
        assert not trace.get_current_span().get_span_context().is_valid


def test_a_batch_names_no_more_requests_than_anybody_looks_at():
    from opentelemetry.sdk.trace import TracerProvider

    traces = ReplicaTraces()
    many = [f"00-{n:032x}-{n:016x}-01" for n in range(1, 500)]
    provider = TracerProvider(shutdown_on_exit=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("opentelemetry.trace.get_tracer", lambda name: provider.get_tracer(name))
        with traces.inside(many, 500) as span:
            assert len(span.links) == MOST_LINKS
