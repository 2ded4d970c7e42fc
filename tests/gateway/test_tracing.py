"""One id leads from a client's span to ours, log line and exemplar; without an endpoint nothing is noted."""

import asyncio
import json

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from platformops.cli import settings
from platformops.errors import UserError
from platformops.gateway.access_log import line
from platformops.gateway.call import Answer
from platformops.gateway.exchange import Exchange
from platformops.gateway.trace_context import Carried, Trail, parent_of, trace_id_of
from platformops.gateway.tracing import Tracing, exporting_to, stages_of
from tests.gateway.door import PREDICTION, Door
from tests.otlp_receiver import receiving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
STAGES_S = (0.001, 0.002, 0.003)


class Traced:
    """A door whose spans are kept."""

    def __init__(self, **kwargs):
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter), **kwargs)
        numbers = iter(range(1000))
        self.door = Door(observers=(self.tracing,))
        self.door.gateway._is_traced = self.tracing.wants
        self.door.gateway._new_id = lambda: f"{next(numbers):024x}"

        async def slow(revision, items):
            await asyncio.sleep(0.02)
            answer = Answer(200, json.dumps(PREDICTION).encode(), model_version="digits:v1", node="n1")
            return [Answer(*_fields(answer), STAGES_S)] * len(items)

        self.door.replicas.behave = slow

    def spans(self):
        self.tracing.flush()
        return {span.name: span for span in self.exporter.get_finished_spans()}


def _fields(answer):
    return (answer.status, answer.json, answer.code, answer.message, answer.model_version, answer.node)


def test_a_request_has_spans_for_waiting_call_and_stages_inside_the_clients_own():
    traced = Traced()
    assert traced.door.ask(headers={"traceparent": SAMPLED}).status_code == 200
    spans = traced.spans()
    assert set(spans) == {"POST /digits/predict", "queue", "call", "decode", "transform", "model"}
    request, call = spans["POST /digits/predict"], spans["call"]
    assert {f"{s.context.trace_id:032x}" for s in spans.values()} == {TRACE}
    assert f"{request.parent.span_id:016x}" == SPAN
    assert {spans[n].parent.span_id for n in ("queue", "call")} == {request.context.span_id}
    for name, seconds in zip(("decode", "transform", "model"), STAGES_S, strict=True):
        assert spans[name].parent.span_id == call.context.span_id
        assert spans[name].end_time - spans[name].start_time == pytest.approx(seconds * 1e9, abs=2000)
        assert call.start_time <= spans[name].start_time <= spans[name].end_time <= call.end_time
    assert request.start_time <= spans["queue"].start_time <= spans["queue"].end_time <= call.end_time
    assert call.end_time <= request.end_time
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["platformops.version"] == "digits:v1"


def test_the_call_has_the_span_that_its_replica_was_told_of():
    traced = Traced()
    told = []
    whole = traced.door.replicas.__class__.__call__

    async def noted(replicas, revision, items, *, deadline, queued, traces=()):
        told.extend(traces)
        return await whole(replicas, revision, items, deadline=deadline, queued=queued)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(traced.door.replicas.__class__, "__call__", noted)
        traced.door.ask(headers={"traceparent": SAMPLED})
    call = traced.spans()["call"].context
    assert told == [f"00-{TRACE}-{call.span_id:016x}-01"]


def test_the_same_id_is_in_the_span_the_log_line_and_the_exemplar():
    traced = Traced()
    answer = traced.door.ask()
    request_id = answer.json()["request_id"]
    (exchange,) = traced.door.seen
    record = json.loads(line(exchange))
    assert record["trace.id"] == trace_id_of(request_id)
    assert record["http.request.id"] == request_id
    assert f"{traced.spans()['call'].context.trace_id:032x}" == record["trace.id"]
    text = traced.door.gateway.metrics.text((), is_open=True).decode()
    exemplars = [s.exemplar for f in text_string_to_metric_families(text) for s in f.samples if s.exemplar]
    assert [e.labels for e in exemplars] == [{"request_id": request_id, "trace_id": record["trace.id"]}]


def test_prometheus_is_given_exemplars_and_others_the_plain_text():
    door = Door()
    door.ask()
    asked = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    found = door.ask("GET", "/metrics", who="operate", headers=asked)
    assert found.headers["content-type"].startswith("application/openmetrics-text")
    assert found.text.endswith("# EOF\n")
    assert "# {request_id=" in found.text
    plain = door.ask("GET", "/metrics", who="operate")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "# {" not in plain.text


def test_nothing_is_noted_without_tracing():
    door = Door()
    door.ask(headers={"traceparent": SAMPLED})
    (exchange,) = door.seen
    assert exchange.trail is None
    assert exchange.trace_id == TRACE, "the client's id is in the log all the same"


def test_clients_decide_over_their_traces_and_the_ratio_over_all_others():
    traced = Traced(ratio=0.0)
    traced.door.ask()
    traced.door.ask(headers={"traceparent": UNSAMPLED})
    assert traced.spans() == {}
    traced.door.ask(headers={"traceparent": SAMPLED})
    assert traced.spans()


def test_a_refused_request_is_a_span_with_its_error():
    traced = Traced()

    async def broken(revision, items):
        raise RuntimeError("the model is broken")

    traced.door.replicas.behave = broken
    assert traced.door.ask().status_code == 500
    request = traced.spans()["POST /digits/predict"]
    assert not request.status.is_ok
    assert request.attributes["http.response.status_code"] == 500


@pytest.mark.parametrize(
    "value",
    [
        "", "00", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"{SAMPLED}-more", f"00-{TRACE}-{SPAN}-0g", f"00-{TRACE}-{SPAN}-01\n",
    ],
)  # fmt: skip
def test_a_traceparent_that_breaks_the_grammar_is_as_good_as_none(value):
    assert parent_of([(b"traceparent", value.encode())]) is None


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known():
    assert parent_of([(b"traceparent", f"01-{TRACE}-{SPAN}-01-new".encode())]).trace_id == TRACE


def test_stages_lie_in_the_middle_of_their_call():
    carried = Carried(SPAN, 0.0, 1.0, 2.0, 3, "n1", (0.1, 0.2, 0.3))
    assert [round(x, 6) for _, *pair in stages_of(carried) for x in pair] == [1.2, 1.3, 1.3, 1.5, 1.5, 1.8]


@pytest.mark.real
def test_spans_reach_an_otlp_receiver():
    with receiving() as (address, came):
        tracing = exporting_to(address, ratio=1.0)
        trail = Trail("a" * 24, TRACE)
        tracing(Exchange("a" * 24, 1.0, "POST", "/digits/predict", "", 5.0, TRACE, system="digits", trail=trail))
        tracing.close()
    assert [(service, span.trace_id.hex()) for service, span in came] == [("platformops-gateway", TRACE)]


def test_traces_are_sent_where_the_environment_says_and_nowhere_without_it(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert settings.traces().endpoint == ""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    assert (settings.traces().endpoint, settings.traces().ratio) == ("http://127.0.0.1:4318", 0.25)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "often")
    with pytest.raises(UserError, match="OTEL_TRACES_SAMPLER_ARG"):
        settings.traces()
