"""Sends the trace of a run that has ended, made of its log, where OTEL_EXPORTER_OTLP_ENDPOINT says."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from platformops.gateway.trace_context import Traces
from platformops.pipeline.spans import RunSpan, spans_of, trace_id_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def send(traces: Traces, log: Path, run_id: str) -> bool:
    """Whether nothing is left to be sent. Some seconds are enough for it: a run never fails for its trace."""
    if not traces.endpoint or not log.is_file():
        return True
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from platformops.gateway.tracing import GivenIds, exporter_to, provider_of

    spans = spans_of(json.loads(line) for line in log.read_bytes().splitlines())
    ids = GivenIds(int(trace_id_of(run_id), 16))
    made, exporter = InMemorySpanExporter(), exporter_to(traces.endpoint)
    tell(provider_of("platformops-run", SimpleSpanProcessor(made), ids), spans)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the caller says it, once
    try:
        return exporter.export(made.get_finished_spans()) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()


def tell(provider: TracerProvider, spans: Sequence[RunSpan]) -> None:
    """The first one is what the others are below."""
    from opentelemetry.context import Context
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.status import Status, StatusCode

    from platformops.gateway.tracing import NANO

    tracer, above = provider.get_tracer("platformops"), Context()
    for span in spans:
        made = tracer.start_span(span.name, above, attributes={**span.about}, start_time=int(span.began * NANO))
        above = above or set_span_in_context(made)
        if span.error:
            made.set_status(Status(StatusCode.ERROR, span.error))
        made.end(int(span.ended * NANO))
