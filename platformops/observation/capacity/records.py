"""Plain records of the performance model: what was measured, what was fitted to it, and what follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Cause(Enum):
    """What can bound the throughput of a served model."""

    DECODE = "decode"
    TRANSFORM = "transform"
    MODEL = "model"
    BATCHING = "batching wait"
    ROUTER = "router"
    SERIALISATION = "serialisation"
    CPU_LIMIT = "CPU limit"
    MEMORY = "memory"
    DOWNSTREAM = "downstream"
    HOT_REPLICA = "hot replica"


STAGES = (Cause.DECODE, Cause.TRANSFORM, Cause.MODEL, Cause.DOWNSTREAM)
"""Where a replica spends its time; the rest of a call is the way there and back."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call from the gateway to a replica, or the mean of several."""

    replica: str
    items: float
    seconds: float
    """From the gateway and back."""
    stage_s: Mapping[Cause, float]
    """Wall time of each of STAGES; a stage that is not there takes none."""
    cpu_s: float
    """CPU time of the replica in its own stages, without downstream."""
    stalled_s: float = 0.0
    """Waiting for memory: page faults and reclaim."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one stretch of steady load looked like."""

    replicas: int
    batch: int
    """Most items of a call."""
    seconds: float
    requests: int
    mean_s: float
    p50_s: float
    p99_s: float
    router_s: float
    """CPU of the gateway a request, without the body."""
    serialisation_s: float
    """CPU of the gateway a request for its body: reading, packing, sending."""
    calls: tuple[Call, ...] = field(repr=False)
    """All, or a sample."""
    clients: int | None = None
    """Of a closed loop; None where requests came whatever happened to earlier ones."""
    in_flight: float | None = None
    """Mean number of requests in the system, counted independently of their latency."""
    busy_cores: float | None = None
    """Of those that replicas and gateway have: kept busy meanwhile, by them, by the load where it is on the same
    machine, or by others; None where nobody knows."""
    idle_cores: float = 0.0
    """Of the same: kept busy while nothing was asked."""

    @property
    def throughput_per_s(self) -> float:
        return self.requests / self.seconds


def in_closed_loops(points: Sequence[Measured]) -> Sequence[Measured]:
    """Those whose clients wait for each answer: the ones that a curve over clients is drawn of, and that saturate."""
    return [point for point in points if point.clients is not None]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the bounds within which 95 % of resamples put it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:,.4g} [{self.low:,.4g} to {self.high:,.4g}]"


@dataclass(frozen=True, slots=True)
class Service:
    """A call of `b` items takes a replica `(fixed_s + item_s * b)`, times its slowness, times luck of mean 1."""

    fixed_s: float
    item_s: float
    spread: float
    """Standard deviation of the logarithm of that luck."""
    slowness: tuple[float, ...]
    """Of each replica, 1 for the median one."""
    gateway_s: float
    """Of one gateway, a request."""
    contention: float = 0.0
    """By which ratio each further replica slows all down, as far as that was measured."""
    cpu_item_s: float = 0.0
    """CPU that an item takes of `cores`, in replica and gateway and wherever else it makes work there."""
    cores: float = math.inf
    """That serving has; infinite where nobody says."""
    lag_s: float = 0.0
    """Of each request outside of gateway and calls, as clients saw it."""
    tail_ratio: float = 1.0
    """By which the distance of the 99th percentile from the median is longer than that of the calls."""
    cpu_call_s: float = 0.0
    """The same CPU, of a call, whatever it carries."""

    def call_s(self, items: float, *, replicas: int) -> float:
        alone = self.fixed_s + self.item_s * items
        return alone * max(1.0 + self.contention * (replicas - 1), self._stretch(alone, items, replicas))

    def _stretch(self, alone: float, items: float, replicas: int) -> float:
        """By which ratio calls take longer when all replicas compute and there are not cores enough."""
        wanted = replicas * (self.cpu_call_s + self.cpu_item_s * items) / alone
        return wanted / self.cores


@dataclass(frozen=True, slots=True)
class Load:
    """What to predict for: `per_s` requests of one item that come at random, or `clients` that wait for each answer."""

    replicas: int
    batch: int
    per_s: float | None = None
    clients: int | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    load: Load
    throughput_per_s: float
    p50_s: float
    p99_s: float
    mean_s: float
    mean_items: float
    """Of a call."""
    utilisation: float
    """Of the replicas."""


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What bounds throughput, and how sure one can be."""

    cause: Cause
    relief: float
    """By which ratio capacity would rise with that cost halved, or that anomaly gone."""
    evidence: str
    reliefs: Mapping[Cause, float]
    """Of every cause."""
    capacity_per_s: float
