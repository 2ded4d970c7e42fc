"""Settings that serve the most requests within a limit on response time, by the fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from platformops.observation.capacity.queueing import predict
from platformops.observation.capacity.records import Load, Prediction, Service
from platformops.observation.capacity.service import capacity_per_s

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
SHARES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Of capacity, tried in this order: the p99 rises with the load, so that the last that keeps the limit is best."""
REQUESTS = 6000
GAIN = 1.02
"""By which a combination must be better than one with fewer replicas."""
QUEUE_LIMITS = 4.0
"""Times the limit that a full queue takes to be answered: a stall of a moment makes requests late and refuses none."""
HEADROOM = 0.9
"""Of the rate that the model just allows: what is proposed must hold when it is measured."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings for `serve`, the load they are good for, and why not others."""

    replicas: int
    batch: int
    max_queue: int
    """Items that may wait at the gateway: more would wait for a multiple of the limit."""
    prediction: Prediction
    reason: str


def propose(service: Service, *, p99_s: float, replicas: Sequence[int], batches: Sequence[int] = BATCHES) -> Proposal:
    """The best of all combinations; of equal ones the fewest replicas. Raises ValueError when none keeps the limit."""
    best: tuple[float, Prediction] | None = None
    for count in sorted(replicas):
        for batch in batches:
            if best and _most(service, Load(count, batch)) <= GAIN * best[0]:
                continue  # not worth its evaluation
            found = most_within(service, Load(count, batch), p99_s=p99_s)
            if found and (best is None or found.throughput_per_s > GAIN * best[0]):
                best = found.throughput_per_s, found
    if best is None:
        fastest = service.call_s(1, replicas=1) + service.gateway_s + service.lag_s
        raise ValueError(f"no setting answers within {1e3 * p99_s:.0f} ms: one item alone takes {1e3 * fastest:.1f} ms")
    chosen = best[1]
    capacity = capacity_per_s(service, replicas=chosen.load.replicas, batch=chosen.load.batch)
    queue = max(chosen.load.batch, int(QUEUE_LIMITS * capacity * p99_s))
    return Proposal(chosen.load.replicas, chosen.load.batch, queue, chosen, _reason(chosen, p99_s, capacity))


def _most(service: Service, settings: Load) -> float:
    """A rate that these settings cannot be proposed beyond."""
    return HEADROOM * SHARES[-1] * capacity_per_s(service, replicas=settings.replicas, batch=settings.batch)


def most_within(service: Service, settings: Load, *, p99_s: float) -> Prediction | None:
    """The highest rate whose predicted p99 is within the limit; None when even a tenth of capacity is not."""
    capacity = capacity_per_s(service, replicas=settings.replicas, batch=settings.batch)
    best = None
    for share in SHARES:
        answer = predict(service, Load(settings.replicas, settings.batch, per_s=share * capacity), requests=REQUESTS)
        if answer.p99_s > p99_s:
            break
        best = answer
    if best is None or best.load.per_s is None:
        return None
    load = Load(settings.replicas, settings.batch, per_s=HEADROOM * best.load.per_s)
    return predict(service, load, requests=REQUESTS)


def _reason(chosen: Prediction, p99_s: float, capacity: float) -> str:
    share = chosen.throughput_per_s / capacity
    return (
        f"{chosen.throughput_per_s:,.0f} requests a second at a p99 of {1e3 * chosen.p99_s:.0f} of "
        f"{1e3 * p99_s:.0f} ms, "
        f"{share:.0%} of the capacity of {chosen.load.replicas} replicas with up to {chosen.load.batch} items a call"
    )
