"""A page on how a system answers under load: what was measured, what bounds it, and what the fitted model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from platformops.observation.capacity.queueing import predict
from platformops.observation.capacity.records import Bottleneck, Load, Measured, Service
from platformops.observation.capacity.service import capacity_per_s
from platformops.observation.charts import line_chart, number
from platformops.observation.page import figures, page, table

SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Of capacity: the loads for which response times are predicted."""
REQUESTS = 4000


@dataclass(frozen=True, slots=True)
class PerfPage:
    system: str
    points: Sequence[Measured]
    service: Service
    bottleneck: Bottleneck
    replicas: int
    batch: int
    said: str
    """What it comes to, in a sentence."""


def render(told: PerfPage) -> str:
    """One HTML file without scripts or anything from elsewhere."""
    return page(
        f"{told.system}: performance",
        told.said,
        [
            ("Measured", _measured(told.points)),
            ("Predicted", _predicted(told)),
            ("Bottleneck", _reliefs(told.bottleneck)),
            ("Fitted", _fitted(told.service)),
        ],
    )


def _measured(points: Sequence[Measured]) -> str:
    clients = [float(p.clients or 1) for p in points]
    drawn = [
        ("Throughput", [p.throughput_per_s for p in points], "requests/s"),
        ("99th percentile", [1e3 * p.p99_s for p in points], "ms"),
        ("Items that travel together", [_items(p) for p in points], "items a call"),
    ]
    charts = [(name, line_chart(clients, ys, x_label="clients", y_label=unit, low=0.0)) for name, ys, unit in drawn]
    rows = [
        (str(p.clients), number(round(p.throughput_per_s, 1)), f"{1e3 * p.p50_s:.2f}", f"{1e3 * p.p99_s:.2f}",
         f"{_items(p):.1f}", f"{1e3 * p.router_s:.3f}")
        for p in points
    ]  # fmt: skip
    heads = ("clients", "requests/s", "p50 ms", "p99 ms", "items a call", "gateway CPU ms a request")
    return figures(charts) + table(heads, rows)


def _items(point: Measured) -> float:
    return sum(call.items for call in point.calls) / max(1, len(point.calls))


def _predicted(told: PerfPage) -> str:
    """Response times of requests that come at random, by their rate."""
    capacity = capacity_per_s(told.service, replicas=told.replicas, batch=told.batch)
    loads = [Load(told.replicas, told.batch, per_s=share * capacity) for share in SHARES]
    found = [predict(told.service, load, requests=REQUESTS) for load in loads]
    rates = [float(round(load.per_s or 0.0)) for load in loads]
    drawn = (("Median", [1e3 * f.p50_s for f in found]), ("99th percentile", [1e3 * f.p99_s for f in found]))
    charts = [
        (f"{name}, {told.replicas} replicas", line_chart(rates, ys, x_label="requests/s", y_label="ms", low=0.0))
        for name, ys in drawn
    ]
    note = f"Capacity of {told.replicas} replicas: {capacity:,.0f} requests a second, for requests that come at random."
    return f"<p class='note'>{note}</p>{figures(charts)}"


def _reliefs(found: Bottleneck) -> str:
    ordered = sorted(found.reliefs.items(), key=lambda item: -item[1])
    rows = [(cause.value, f"{relief:.2f}", found.evidence if cause is found.cause else "") for cause, relief in ordered]
    note = "By how much capacity would rise with half of that cost, or with that anomaly gone."
    return f"<p class='note'>{note}</p>{table(('cause', 'times as much', 'evidence'), rows)}"


def _fitted(service: Service) -> str:
    each = (
        ("a call takes, whatever it carries", service.fixed_s),
        ("each item of it adds", service.item_s),
        ("CPU of a call, in all", service.cpu_call_s),
        ("CPU of an item, in all", service.cpu_item_s),
        ("CPU of the gateway a request", service.gateway_s),
        ("clients wait besides, a request", service.lag_s),
    )
    return table(("cost", "ms"), [(name, f"{1e3 * seconds:.3f}") for name, seconds in each])
