"""What the gateway counts, in Prometheus text: requests, latency, items in flight and waiting, refusals by reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from platformops.gateway.exchange import Exchange

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class LaneFigures(Protocol):
    @property
    def revision(self) -> str: ...
    @property
    def queued(self) -> int: ...
    @property
    def in_flight(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Series:
    """The metrics of one system, revision and status, looked up once and not for each request."""

    requests: Counter
    seconds: Histogram
    items: Counter


class GatewayMetrics:
    """An observer of exchanges with a registry of its own, so that two gateways in a process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "platformops_requests",
            "Requests answered.",
            ["system", "revision", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "platformops_request_seconds",
            "From the head of a request to its answer.",
            ["system", "revision"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._items = Counter("platformops_items", "Items predicted.", ["system", "revision"], registry=self.registry)
        self._refused = Counter(
            "platformops_refused",
            "Requests that got no prediction.",
            ["system", "code"],
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._queued = Gauge(
            "platformops_items_queued", "Items that wait for a call.", ["revision"], registry=self.registry
        )
        self._in_flight = Gauge(
            "platformops_items_in_flight", "Items on their way to a replica.", ["revision"], registry=self.registry
        )

    def __call__(self, exchange: Exchange) -> None:
        labels = (exchange.system or "-", exchange.revision or "-", str(exchange.status))
        series = self._series.get(labels) or self._new_series(labels)
        series.requests.inc()
        if exchange.code:
            self._refused.labels(labels[0], exchange.code).inc()
        if exchange.items:
            series.seconds.observe(exchange.seconds)
        if exchange.items and exchange.status == 200:
            series.items.inc(exchange.items)

    def _new_series(self, labels: tuple[str, str, str]) -> _Series:
        system, revision, status = labels
        series = _Series(
            self._requests.labels(system, revision, status),
            self._seconds.labels(system, revision),
            self._items.labels(system, revision),
        )
        self._series[labels] = series
        return series

    def text(self, lanes: Iterable[LaneFigures]) -> bytes:
        """All metrics in the Prometheus text format; `lanes` are read now."""
        self._queued.clear()
        self._in_flight.clear()
        for lane in lanes:
            self._queued.labels(lane.revision).set(lane.queued)
            self._in_flight.labels(lane.revision).set(lane.in_flight)
        return generate_latest(self.registry)
