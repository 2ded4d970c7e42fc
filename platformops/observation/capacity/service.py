"""What a replica's calls cost, fitted to measured ones: a fixed part, a part an item, and how replicas differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from platformops.observation.capacity.laws import interval_of
from platformops.observation.capacity.records import Call, Interval, Measured, Service

RESAMPLES = 40
HOT = 1.5
"""A replica slower than this is left out of what is usual."""
LEAST_CORES = 0.25
"""Of all, that serving gets in the end, however busy others are."""
LEAST_CONTENTION = 0.02
FEWEST_FOR_SPREAD = 30
USUAL_SPREAD = 0.3
"""Where only means of many calls are known, which tell nothing of how single ones differ."""
FEWEST_CALLS = 3
"""Of a replica, before its speed is told apart from luck."""


def fit_service(points: Sequence[Measured], *, cores: float = math.inf) -> Service:
    """From all calls of all points; of `cores`, which replicas and gateway share, serving has what was not busy while
    nothing was asked. Raises ValueError without a call."""
    calls = [call for point in points for call in point.calls]
    if not calls:
        raise ValueError("no call was measured")
    counts = np.concatenate([np.full(len(p.calls), p.replicas) for p in points])
    fixed_s, item_s, contention = _fit(calls, counts, np.ones(len(calls)))
    newest = max(points, key=lambda p: p.replicas)
    by_name = _slowness(newest, fixed_s, item_s, contention)
    if max(by_name.values(), default=1.0) > HOT:  # the line must not be that of a sick replica
        slow = np.array([by_name.get(c.replica, 1.0) for c in calls])
        fixed_s, item_s, contention = _fit(calls, counts, slow)
        by_name = _slowness(newest, fixed_s, item_s, contention)
    usual = np.array(
        [(fixed_s + item_s * c.items) * (1 + contention * (n - 1)) for c, n in zip(calls, counts, strict=True)]
    )
    luck = np.array([c.seconds / by_name.get(c.replica, 1.0) for c in calls]) / usual
    served = sum(p.requests for p in points)
    gateway_s = sum((p.router_s + p.serialisation_s) * p.requests for p in points) / served
    is_many = len(calls) >= FEWEST_FOR_SPREAD
    spread = float(np.std(np.log(np.maximum(luck, 1e-9)))) if is_many else USUAL_SPREAD
    mean = float(np.mean(luck))  # of a fit of relative errors it is not quite 1
    cpu_item_s, cpu_call_s = _cpu(points, gateway_s)
    return Service(
        fixed_s * mean, item_s * mean, min(spread, 1.5), tuple(by_name.values()) or (1.0,), gateway_s, contention,
        cpu_item_s, max(LEAST_CORES * cores, cores - max(p.idle_cores for p in points)), cpu_call_s=cpu_call_s,
    )  # fmt: skip


def _cpu(points: Sequence[Measured], gateway_s: float) -> tuple[float, float]:
    """CPU of an item, and of a call. What replicas and gateway tell leaves out what the kernel, the way between them,
    and the load do for each call, so that it counts only where nobody knows how busy the cores were."""
    known = [(p.busy_cores - p.idle_cores, p) for p in points if p.busy_cores is not None and p.requests]
    spent = np.array([max(cores, 0.0) / p.throughput_per_s for cores, p in known])
    if not known or not spent.all():
        calls = [call for point in points for call in point.calls]
        return sum(c.cpu_s for c in calls) / sum(c.items for c in calls) + gateway_s, 0.0
    items = np.array([np.mean([c.items for c in p.calls]) for _, p in known])
    if np.ptp(items) == 0.0:
        return float(spent.mean()), 0.0
    # Relative errors count alike; none of both parts is negative.
    (item_s, call_s), _ = nnls(
        np.stack([np.ones_like(items), 1.0 / items], axis=1) / spent[:, None], np.ones_like(items)
    )
    return float(item_s), float(call_s)


def capacity_per_s(service: Service, *, replicas: int, batch: int) -> float:
    """Most requests a second of one item each: of the gateway or of full calls to all replicas, whichever is less."""
    slow = slowness_of(service, replicas)
    pool = sum(batch / (service.call_s(batch, replicas=replicas) * s) for s in slow)
    return min(pool, 1.0 / service.gateway_s if service.gateway_s > 0 else float("inf"))


def slowness_of(service: Service, replicas: int) -> tuple[float, ...]:
    """Replicas that were not measured are as the median one."""
    known = sorted(service.slowness, reverse=True)[:replicas]
    return (*known, *(1.0 for _ in range(replicas - len(known))))


def capacity_interval(
    points: Sequence[Measured], *, replicas: int, batch: int, cores: float = math.inf, seed: int = 0
) -> Interval:
    """With the bounds that resampled calls give."""
    luck = np.random.default_rng(seed)
    values = [capacity_per_s(fit_service(points, cores=cores), replicas=replicas, batch=batch)]
    for _ in range(RESAMPLES):
        drawn = [_resampled(point, luck) for point in points]
        values.append(capacity_per_s(fit_service(drawn, cores=cores), replicas=replicas, batch=batch))
    return interval_of(values)


def _resampled(point: Measured, luck: np.random.Generator) -> Measured:
    return replace(point, calls=tuple(point.calls[i] for i in luck.integers(0, len(point.calls), len(point.calls))))


def _fit(calls: Sequence[Call], counts: np.ndarray, slow: np.ndarray) -> tuple[float, float, float]:
    """Fixed and item seconds, and contention; relative errors count alike for short and long calls."""
    items = np.array([c.items for c in calls], float)
    seconds = np.array([c.seconds for c in calls]) / slow
    contention = _contention(items, seconds, counts)
    alone = seconds / (1 + contention * (counts - 1))
    if len(np.unique(items)) > 1:
        # Medians a batch size: one stalled call must not tilt the line.
        sizes = np.unique(items)
        typical = np.array([np.median(alone[items == size]) for size in sizes])
        weights = np.sqrt([np.sum(items == size) for size in sizes]) / typical
        terms = np.stack([np.ones_like(sizes), sizes], axis=1) * weights[:, None]
        (fixed_s, item_s), *_ = np.linalg.lstsq(terms, typical * weights, rcond=None)
        if fixed_s >= 0 and item_s > 0:
            return float(fixed_s), float(item_s), contention
    staged = np.array([sum(c.stage_s.values()) for c in calls]) / slow / (1 + contention * (counts - 1))
    item_s = float(np.mean(staged) / np.mean(items))
    return max(0.0, float(np.mean(alone) - np.mean(staged))), max(item_s, 1e-9), contention


def _contention(items: np.ndarray, seconds: np.ndarray, counts: np.ndarray) -> float:
    """From calls of the same size with few and with many replicas; 0 where only one count was measured."""
    few, many = counts.min(), counts.max()
    if few == many:
        return 0.0
    ratios = [
        np.median(seconds[(items == size) & (counts == many)]) / np.median(seconds[(items == size) & (counts == few)])
        for size in np.unique(items)
        if min(((items == size) & (counts == n)).sum() for n in (few, many)) >= FEWEST_CALLS
    ]
    if not ratios:
        return 0.0
    ratio = float(np.median(ratios))
    doubt = 2.0 * float(np.std(np.log(ratios))) / np.sqrt(len(ratios)) + LEAST_CONTENTION
    if len(ratios) < FEWEST_CALLS or np.log(ratio) < doubt:
        return 0.0
    return max(0.0, (ratio - 1) / max(1e-9, float(many - 1) - ratio * float(few - 1)))


def _slowness(point: Measured, fixed_s: float, item_s: float, contention: float) -> dict[str, float]:
    by_replica: dict[str, list[float]] = {}
    for call in point.calls:
        usual = (fixed_s + item_s * call.items) * (1 + contention * (point.replicas - 1))
        by_replica.setdefault(call.replica, []).append(call.seconds / usual)
    medians = {name: float(np.median(v)) for name, v in sorted(by_replica.items()) if len(v) >= FEWEST_CALLS}
    if not medians:
        return {}
    # Of two replicas the faster one is the usual: nothing makes a replica faster than it is.
    middle = sorted(medians.values())[(len(medians) - 1) // 2]
    return {name: max(1.0, median / middle) for name, median in medians.items()}
