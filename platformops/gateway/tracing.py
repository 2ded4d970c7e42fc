"""Traces of requests by OpenTelemetry: a span for the request, its waiting, its calls, and the replica's stages.

Needs the extra `traces`, and is not imported without an endpoint to send to. Spans are made of what the gateway noted,
after the answer has gone and in another thread: no request waits for its trace.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from platformops.gateway.counting import STAGES
from platformops.gateway.exchange import Exchange
from platformops.gateway.trace_context import Carried

MOST_WAITING = 10_000
"""Requests whose spans are still to be made; those beyond go untraced."""
NANO = 1_000_000_000
EXPORT_S = 5.0
Attributes = dict[str, AttributeValue]


class GivenIds(RandomIdGenerator):
    """Gives the trace id that is set, so that it is the one in log lines and exemplars, and once the span id that is
    set, so that it is the one that the replica was told."""

    def __init__(self, trace_id: int = 0) -> None:
        self.trace_id = trace_id
        self.span_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        given, self.span_id = self.span_id, None
        return super().generate_span_id() if given is None else given


class Tracing:
    """An observer of exchanges: `flush` is called by the owner about once a second, and hands spans on."""

    def __init__(self, processor: SpanProcessor, *, ratio: float = 1.0) -> None:
        """`ratio` of the requests whose clients say nothing of it are traced; else they decide."""
        self._ids, self._ratio = GivenIds(), ratio
        self._provider = provider_of("platformops-gateway", processor, self._ids)
        self._tracer = self._provider.get_tracer("platformops")
        self._waiting: list[Exchange] = []

    def wants(self, exchange: Exchange) -> bool:
        if exchange.parent is not None:
            return exchange.parent.is_sampled
        return self._ratio >= 1.0 or int(exchange.trace_id[-8:], 16) < self._ratio * 2**32

    def __call__(self, exchange: Exchange) -> None:
        if exchange.trail is not None and exchange.system and len(self._waiting) < MOST_WAITING:
            self._waiting.append(exchange)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            self._tell(exchange)

    def close(self) -> None:
        """What was noted has been handed to the exporter on return."""
        self.flush()
        self._provider.shutdown()

    def _tell(self, exchange: Exchange) -> None:
        self._ids.trace_id = int(exchange.trace_id, 16)
        clock = _EpochOf(exchange)
        request = self._tracer.start_span(
            f"{exchange.method} {exchange.path}", _context_of(exchange), SpanKind.SERVER, _attributes_of(exchange),
            start_time=clock.ns(exchange.started),
        )  # fmt: skip
        if exchange.status >= 500:
            request.set_status(Status(StatusCode.ERROR, exchange.code))
        for carried in exchange.trail.calls if exchange.trail else ():
            self._tell_call(carried, set_span_in_context(request), clock)
        request.end(clock.ns(exchange.started + exchange.seconds))

    def _tell_call(self, carried: Carried, inside: Context, clock: _EpochOf) -> None:
        self._span("queue", inside, carried.since, carried.sent_at, clock)
        about: Attributes = {"platformops.call.items": carried.items, "platformops.node": carried.node}
        self._ids.span_id = int(carried.span_id, 16)
        call = self._tracer.start_span("call", inside, SpanKind.CLIENT, about, start_time=clock.ns(carried.sent_at))
        for name, began, ended in stages_of(carried):
            self._span(name, set_span_in_context(call), began, ended, clock)
        call.end(clock.ns(carried.returned_at))

    def _span(self, name: str, inside: Context, began: float, ended: float, clock: _EpochOf) -> None:
        span = self._tracer.start_span(name, inside, SpanKind.INTERNAL, start_time=clock.ns(began))
        span.end(clock.ns(ended))


class _EpochOf:
    """Turns loop time of one request into nanoseconds since the epoch."""

    def __init__(self, exchange: Exchange) -> None:
        self._at, self._started = exchange.at, exchange.started

    def ns(self, instant: float) -> int:
        return int((self._at + instant - self._started) * NANO)


def stages_of(carried: Carried) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end of each stage of the replica. Clocks of two machines differ by more than a stage takes, so
    that the way there is taken to be as long as the way back, and the stages lie between them."""
    way_s = max(0.0, carried.returned_at - carried.sent_at - sum(carried.stages_s)) / 2
    began = carried.sent_at + way_s
    for name, stage_s in zip(STAGES, carried.stages_s, strict=False):
        yield name, began, began + stage_s
        began += stage_s


def _context_of(exchange: Exchange) -> Context:
    if exchange.parent is None:
        return Context()
    trace_id, span_id = int(exchange.parent.trace_id, 16), int(exchange.parent.span_id, 16)
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _attributes_of(exchange: Exchange) -> Attributes:
    """Names of OpenTelemetry's conventions for HTTP, and ours as they stand in the log."""
    told: Attributes = {
        "http.request.method": exchange.method,
        "http.response.status_code": exchange.status,
        "url.path": exchange.path,
        "http.request.id": exchange.request_id,
        "platformops.system": exchange.system,
        "platformops.revision": exchange.revision,
        "platformops.version": exchange.model_version,
        "platformops.items": exchange.items,
    }
    return {name: value for name, value in told.items() if value != ""}


def provider_of(service: str, processor: SpanProcessor, ids: GivenIds) -> TracerProvider:
    """Of spans that are made of notes, in the name of `service`; each is handed to `processor`."""
    named = Resource.create({"service.name": service})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=named, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def exporter_to(endpoint: str) -> SpanExporter:
    """Sends spans to `endpoint`, the base URL of an OTLP/HTTP receiver; what it cannot take is dropped."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)


def exporting_to(endpoint: str, *, ratio: float) -> Tracing:
    """Sends the spans of requests to `endpoint`, from a thread of its own."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return Tracing(BatchSpanProcessor(exporter_to(endpoint), schedule_delay_millis=1000), ratio=ratio)
