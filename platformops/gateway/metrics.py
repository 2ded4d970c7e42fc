"""What the gateway exports, in Prometheus text: its counts, its queues, and what the store says."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Protocol

import psutil
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from platformops.gateway.counting import Counting
from platformops.observation import metrics
from platformops.observation.metrics import MOST_SERIES, Metric, Reading

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"


class LaneFigures(Protocol):
    @property
    def revision(self) -> str: ...
    @property
    def queued(self) -> int: ...
    @property
    def in_flight(self) -> int: ...


class GatewayMetrics:
    """A registry of its own, so that two gateways in a process do not collide."""

    def __init__(self) -> None:
        self.registry, self._counting = CollectorRegistry(), Counting()
        self.registry.register(self._counting)
        self.answered, self.called = self._counting.answered, self._counting.called
        self._queued, self._in_flight = _gauge(metrics.QUEUED, self.registry), _gauge(metrics.IN_FLIGHT, self.registry)
        self._read = {metric: _gauge(metric, self.registry) for metric in metrics.READ}
        _gauge(metrics.GATEWAY_CPU_SECONDS, self.registry).set_function(lambda: sum(os.times()[:2]))
        _gauge(metrics.GATEWAY_RESIDENT_BYTES, self.registry).set_function(_resident_bytes)
        self._lock = threading.Lock()

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

    def text(self, lanes: Iterable[LaneFigures], *, is_open: bool = False) -> bytes:
        """All metrics, in OpenMetrics where `is_open`, which has exemplars; `lanes` are read now."""
        self._queued.clear()
        self._in_flight.clear()
        for lane in lanes:
            self._queued.labels(lane.revision).set(lane.queued)
            self._in_flight.labels(lane.revision).set(lane.in_flight)
        with self._lock:
            if is_open:
                return bytes(openmetrics.generate_latest(self.registry))  # type: ignore[no-untyped-call]
            return generate_latest(self.registry)


def _resident_bytes() -> float:
    return float(psutil.Process().memory_info().rss)


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.full_name, metric.meaning, metric.labels, registry=registry)
