"""What the gateway counts, in Prometheus text: requests, latency, calls and their stages, and what the store says."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from platformops.gateway.exchange import Exchange
from platformops.observation import metrics
from platformops.observation.metrics import MOST_SERIES, OTHER, Metric, Reading


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


@dataclass(frozen=True, slots=True)
class _CallSeries:
    """The metrics of one revision on one node."""

    calls: Counter
    items: Counter
    seconds: Counter
    cpu_s: Counter
    stages: Mapping[str, Counter]


STAGES = ("decode", "transform", "model")


class GatewayMetrics:
    """An observer of exchanges with a registry of its own, so that two gateways in a process do not collide."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _counter(metrics.REQUESTS, self.registry)
        self._seconds = Histogram(
            metrics.REQUEST_SECONDS.full_name,
            metrics.REQUEST_SECONDS.meaning,
            metrics.REQUEST_SECONDS.labels,
            buckets=metrics.REQUEST_SECONDS.buckets,
            registry=self.registry,
        )
        self._items = _counter(metrics.ITEMS, self.registry)
        self._refused = _counter(metrics.REFUSED, self.registry)
        self._calls = _counter(metrics.CALLS, self.registry)
        self._call_items = _counter(metrics.CALL_ITEMS, self.registry)
        self._call_seconds = _counter(metrics.CALL_SECONDS, self.registry)
        self._stage_seconds = _counter(metrics.STAGE_SECONDS, self.registry)
        self._cpu_seconds = _counter(metrics.REPLICA_CPU_SECONDS, self.registry)
        self._queued, self._in_flight = _gauge(metrics.QUEUED, self.registry), _gauge(metrics.IN_FLIGHT, self.registry)
        self._read = {metric: _gauge(metric, self.registry) for metric in metrics.READ}
        _gauge(metrics.GATEWAY_CPU_SECONDS, self.registry).set_function(lambda: sum(os.times()[:2]))
        _gauge(metrics.GATEWAY_RESIDENT_BYTES, self.registry).set_function(_resident_bytes)
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._call_series: dict[tuple[str, str], _CallSeries] = {}
        self._lock = threading.Lock()

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

    def called(
        self, revision: str, node: str, *, items: int, seconds: float, stages_s: Iterable[float], cpu_s: float
    ) -> None:
        """A call returned; `stages_s` in the order of STAGES."""
        series = self._call_series.get((revision, node)) or self._new_call_series(revision, node)
        series.calls.inc()
        series.items.inc(items)
        series.seconds.inc(seconds)
        series.cpu_s.inc(cpu_s)
        for counter, stage_s in zip(series.stages.values(), stages_s, strict=False):
            counter.inc(stage_s)

    def tell(self, readings: Iterable[Reading]) -> None:
        """Replaces what was read before; from any thread."""
        with self._lock:
            for gauge in self._read.values():
                gauge.clear()
            counts: dict[Metric, int] = {}
            for reading in readings:
                counts[reading.metric] = counts.get(reading.metric, 0) + 1
                if counts[reading.metric] <= MOST_SERIES:
                    gauge = self._read[reading.metric]
                    (gauge.labels(*reading.labels) if reading.labels else gauge).set(reading.value)

    def _new_series(self, labels: tuple[str, str, str]) -> _Series:
        system, revision, status = labels if len(self._series) < MOST_SERIES else (OTHER, OTHER, labels[2])
        series = _Series(
            self._requests.labels(system, revision, status),
            self._seconds.labels(system, revision),
            self._items.labels(system, revision),
        )
        if len(self._series) < MOST_SERIES:
            self._series[labels] = series
        return series

    def _new_call_series(self, revision: str, node: str) -> _CallSeries:
        is_full = len(self._call_series) >= MOST_SERIES
        labels = (OTHER, OTHER) if is_full else (revision, node)
        series = _CallSeries(
            self._calls.labels(*labels),
            self._call_items.labels(*labels),
            self._call_seconds.labels(*labels),
            self._cpu_seconds.labels(*labels),
            {stage: self._stage_seconds.labels(*labels, stage) for stage in STAGES},
        )
        if not is_full:
            self._call_series[revision, node] = series
        return series

    def text(self, lanes: Iterable[LaneFigures]) -> bytes:
        """All metrics in the Prometheus text format; `lanes` are read now."""
        self._queued.clear()
        self._in_flight.clear()
        for lane in lanes:
            self._queued.labels(lane.revision).set(lane.queued)
            self._in_flight.labels(lane.revision).set(lane.in_flight)
        with self._lock:
            return generate_latest(self.registry)


def _resident_bytes() -> float:
    return float(psutil.Process().memory_info().rss)


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.full_name, metric.meaning, metric.labels, registry=registry)


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.full_name, metric.meaning, metric.labels, registry=registry)
