"""What clients of a live system wait beyond what its calls explain: the network, the scheduler, pauses of the machine.

A live system tells means of its calls and quantiles of what clients saw, so that how single calls differ, and what
keeps a request waiting outside of them, is known from the latter alone. It is learnt as the residual of the model at
the points that were measured, and taken to be the same at those that were not; the tail from requests that came at
random, where there are any: clients that wait for their answers keep out of each other's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from platformops.observation.capacity.queueing import predict
from platformops.observation.capacity.records import Load, Measured, Service
from platformops.observation.capacity.service import fit_service

REQUESTS = 4000
LARGEST_TAIL_RATIO = 5.0
LEAST_TAIL_S = 1e-4


def fit_live(points: Sequence[Measured], *, cores: float = float("inf")) -> Service:
    """`fit_service` with the lag and the tail that clients saw. Raises ValueError without a call."""
    return with_tails(fit_service(points, cores=cores), points)


def with_tails(service: Service, points: Sequence[Measured]) -> Service:
    """The service whose predictions agree, in the median over these points, with the quantiles of clients."""
    found = [(p, predict(service, _load(p), requests=REQUESTS)) for p in points if p.requests]
    if not found:
        return service
    # What comes on top of each request shows where requests do not wait for each other.
    quietest, alone = min(found, key=lambda pair: pair[1].utilisation)
    lag_s = max(0.0, quietest.p50_s - alone.p50_s)
    at_random = [(p, told) for p, told in found if p.clients is None] or found
    ratios = [(p.p99_s - p.p50_s) / max(told.p99_s - told.p50_s, LEAST_TAIL_S) for p, told in at_random]
    return replace(service, lag_s=lag_s, tail_ratio=min(max(median(ratios), 1.0), LARGEST_TAIL_RATIO))


def _load(point: Measured) -> Load:
    per_s = point.throughput_per_s if point.clients is None else None
    return Load(point.replicas, point.batch, per_s=per_s, clients=point.clients)
