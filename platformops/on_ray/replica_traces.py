"""Lets what an app does in a replica belong to the traces of the requests that it is done for.

Sends spans where OTEL_EXPORTER_OTLP_ENDPOINT of the replica's own environment says, unless the app has chosen a
provider of its own (OpenTelemetry knows one a process). Without the extra `traces` nothing is traced here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING

from platformops.gateway.trace_context import Parent, named_by

if TYPE_CHECKING:
    from opentelemetry.trace import Link, SpanContext

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
MOST_LINKS = 64
"""Of a batch, which may answer more requests than anybody looks at."""


class ReplicaTraces:
    """Of one replica; use from any thread."""

    def __init__(self, **about: str) -> None:
        """`about` stands at every span of the platform's own, each name below `platformops.`."""
        self._about = {f"platformops.{name}": value for name, value in about.items()}
        self._is_able = find_spec("opentelemetry") is not None
        if self._is_able and os.environ.get(ENDPOINT):
            _provide()

    def inside(self, traces: Sequence[str], num_items: int) -> AbstractContextManager[object]:
        """Spans that are made within it are below a span `predict`, whose parent the first of `traces` names, as
        `traceparent` headers do; it is linked to the others, which the same batch answers."""
        if not traces or not self._is_able:
            return nullcontext()
        parents = [parent for trace in traces[: MOST_LINKS + 1] if (parent := named_by(trace.encode())) is not None]
        return self._span(parents, num_items) if parents else nullcontext()

    def _span(self, parents: Sequence[Parent], num_items: int) -> AbstractContextManager[object]:
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, get_tracer, set_span_in_context

        first, *others = map(_context_of, parents)
        links: list[Link] = [Link(other) for other in others]
        return get_tracer("platformops").start_as_current_span(
            "predict",
            set_span_in_context(NonRecordingSpan(first), Context()),
            SpanKind.SERVER,
            {**self._about, "platformops.call.items": num_items},
            links,
        )


def _context_of(parent: Parent) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    return SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)


def _provide() -> None:
    """Spans of this process are sent from here on. Where the sender is not installed, or the app has chosen another
    one, nothing changes."""
    from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider, set_tracer_provider

    if not isinstance(get_tracer_provider(), ProxyTracerProvider):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
    except ImportError:
        return
    # The gateway has decided which requests are traced: what belongs to none of them is not.
    named = Resource.create({"service.name": "platformops-replica"})
    provider = TracerProvider(resource=named, sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    set_tracer_provider(provider)
