"""What every request and every call adds to, as plain numbers that become Prometheus families when somebody scrapes.

A counter of the client library takes a lock for each addition: with them a request cost 12 us here, 3 % of what the
gateway can do. One event loop writes these numbers and reads them, so that they need none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Exemplar

from platformops.gateway.exchange import Exchange
from platformops.observation import metrics
from platformops.observation.metrics import MOST_SERIES, OTHER, Metric

STAGES = ("decode", "transform", "model")
BUCKETS = metrics.REQUEST_SECONDS.buckets
Key = TypeVar("Key")
Counts = TypeVar("Counts")
Labels = tuple[str, ...]


@dataclass(slots=True)
class Timed:
    """Of one system and revision."""

    items: int = 0
    sum_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    newest: list[tuple[float, str, str, float] | None] = field(default_factory=lambda: [None] * (len(BUCKETS) + 1))
    """By bucket: seconds, request id, trace id and arrival of the request that fell into it last."""


@dataclass(slots=True)
class Answered:
    """Of one system, revision and status."""

    timed: Timed
    requests: int = 0


@dataclass(slots=True)
class Called:
    """Of one revision on one node."""

    calls: int = 0
    items: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    stages_s: list[float] = field(default_factory=lambda: [0.0] * len(STAGES))


class Counting:
    """A collector for a registry of prometheus-client. Use from one event loop."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str, int], Answered] = {}
        self._timed: dict[tuple[str, str], Timed] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._called: dict[tuple[str, str], Called] = {}

    def answered(self, exchange: Exchange) -> None:
        key = (exchange.system or "-", exchange.revision or "-", exchange.status)
        counts = self._answered.get(key) or self._new_answered(*key)
        counts.requests += 1
        if exchange.code:
            refused = (key[0], exchange.code)
            self._refused[refused] = self._refused.get(refused, 0) + 1
        if exchange.items:
            timed, seconds = counts.timed, exchange.seconds
            bucket = bisect_left(BUCKETS, seconds)
            timed.buckets[bucket] += 1
            timed.sum_s += seconds
            timed.newest[bucket] = (seconds, exchange.request_id, exchange.trace_id, exchange.at)
            if exchange.status == 200:
                timed.items += exchange.items

    def called(
        self, revision: str, node: str, *, items: int, seconds: float, stages_s: Iterable[float], cpu_s: float
    ) -> None:
        """A call returned; `stages_s` in the order of STAGES."""
        counts = self._called.get((revision, node)) or _bounded(self._called, (revision, node), (OTHER, OTHER), Called)
        counts.calls += 1
        counts.items += items
        counts.seconds += seconds
        counts.cpu_s += cpu_s
        for i, stage_s in enumerate(stages_s):
            counts.stages_s[i] += stage_s

    def collect(self) -> Iterator[Family]:
        """Everything so far, with the newest request of each bucket as its exemplar."""
        answered = [(*key[:2], str(key[2])) for key in self._answered]
        yield _counter(metrics.REQUESTS, zip(answered, (a.requests for a in self._answered.values()), strict=True))
        yield _counter(metrics.ITEMS, ((key, t.items) for key, t in self._timed.items()))
        yield _counter(metrics.REFUSED, self._refused.items())
        yield self._request_seconds()
        yield _counter(metrics.CALLS, ((key, c.calls) for key, c in self._called.items()))
        yield _counter(metrics.CALL_ITEMS, ((key, c.items) for key, c in self._called.items()))
        yield _counter(metrics.CALL_SECONDS, ((key, c.seconds) for key, c in self._called.items()))
        yield _counter(metrics.REPLICA_CPU_SECONDS, ((key, c.cpu_s) for key, c in self._called.items()))
        staged = (
            ((*key, stage), seconds)
            for key, c in self._called.items()
            for stage, seconds in zip(STAGES, c.stages_s, strict=True)
        )
        yield _counter(metrics.STAGE_SECONDS, staged)

    def describe(self) -> Iterable[Family]:
        """Nothing: a registry would otherwise collect once, only to learn the names."""
        return ()

    def _new_answered(self, system: str, revision: str, status: int) -> Answered:
        timed = _bounded(self._timed, (system, revision), (OTHER, OTHER), Timed)
        return _bounded(self._answered, (system, revision, status), (OTHER, OTHER, status), lambda: Answered(timed))

    def _request_seconds(self) -> Family:
        metric = metrics.REQUEST_SECONDS
        family = HistogramMetricFamily(metric.full_name, metric.meaning, labels=metric.labels)
        bounds = [*map(str, BUCKETS), "+Inf"]
        for key, timed in self._timed.items():
            counted = accumulate(timed.buckets)
            told: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
                (bound, count, _exemplar(*newest)) if newest else (bound, count)
                for bound, count, newest in zip(bounds, counted, timed.newest, strict=True)
            ]
            family.add_metric(key, told, timed.sum_s)
        return family


def _bounded(table: dict[Key, Counts], key: Key, other: Key, new: Callable[[], Counts]) -> Counts:
    """The counts of `key`, new ones while there is room, and beyond MOST_SERIES those of `other`."""
    place = key if key in table or len(table) < MOST_SERIES else other
    if place not in table:
        table[place] = new()
    return table[place]


def _counter(metric: Metric, values: Iterable[tuple[Labels, float]]) -> Family:
    family = CounterMetricFamily(metric.full_name, metric.meaning, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def _exemplar(seconds: float, request_id: str, trace_id: str, at: float) -> Exemplar:
    """Leads from the bucket to the request: `platformops logs --request ID`, and its trace."""
    return Exemplar({"request_id": request_id, "trace_id": trace_id}, seconds, at)
