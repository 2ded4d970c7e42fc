"""Names what bounds throughput: the cost or anomaly whose relief would raise capacity most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from platformops.observation.capacity.records import STAGES, Bottleneck, Cause, Measured, Service
from platformops.observation.capacity.service import capacity_per_s, fit_service

ROOMY_BATCH = 64
"""What a call may carry without anybody noticing; a smaller limit is a choice that can be undone."""
HALF = 0.5
ANOMALIES = (Cause.HOT_REPLICA, Cause.CPU_LIMIT, Cause.MEMORY)
"""What should not be there at all is named before what is merely the largest of the costs that must be."""
NOTICEABLE = 1.15


def bottleneck(point: Measured, service: Service | None = None) -> Bottleneck:
    """Operational analysis (Denning and Buzen 1978): the station with the largest demand bounds throughput. A stage is
    judged by what halving its cost would gain, an anomaly (a slow replica, stolen CPU, paging, tiny calls) by what its
    absence would. Raises ValueError without a call."""
    service = service or fit_service([point])
    now = capacity_per_s(service, replicas=point.replicas, batch=point.batch)
    reliefs = {cause: _capacity_without(cause, point, service) / now for cause in Cause}
    sick = [cause for cause in ANOMALIES if reliefs[cause] >= NOTICEABLE]
    cause = max(sick or Cause, key=lambda c: reliefs[c])
    return Bottleneck(cause, reliefs[cause], _evidence(cause, point, service), reliefs, now)


def _capacity_without(cause: Cause, point: Measured, service: Service) -> float:
    batch = point.batch
    match cause:
        case Cause.ROUTER:
            service = replace(service, gateway_s=service.gateway_s - HALF * point.router_s)
        case Cause.SERIALISATION:
            service = replace(service, gateway_s=service.gateway_s - HALF * point.serialisation_s)
        case Cause.BATCHING:
            batch = max(batch, ROOMY_BATCH)
        case Cause.HOT_REPLICA:
            service = replace(service, slowness=tuple(1.0 for _ in service.slowness))
        case Cause.CPU_LIMIT:
            service = _faster(service, _stolen_share(point) - _stalled_share(point))
        case Cause.MEMORY:
            service = _faster(service, _stalled_share(point))
        case _:
            service = _faster(service, HALF * _honest_share(cause, point))
    return capacity_per_s(service, replicas=point.replicas, batch=batch)


def _faster(service: Service, share: float) -> Service:
    """With that share of a call's work gone; the way there and back stays."""
    left = 1.0 - min(max(share, 0.0), 0.99)
    return replace(service, item_s=service.item_s * left, fixed_s=service.fixed_s * left)


def _total_s(point: Measured) -> float:
    return sum(call.seconds for call in point.calls)


def _own_s(point: Measured) -> float:
    """Wall time of replicas in their own stages."""
    return sum(s for call in point.calls for stage, s in call.stage_s.items() if stage is not Cause.DOWNSTREAM)


def _stolen_share(point: Measured) -> float:
    """Of calls, the time in which a replica wanted to compute and could not."""
    return max(0.0, _own_s(point) - sum(call.cpu_s for call in point.calls)) / _total_s(point)


def _stalled_share(point: Measured) -> float:
    return sum(call.stalled_s for call in point.calls) / _total_s(point)


def _honest_share(stage: Cause, point: Measured) -> float:
    """Of calls, the time in a stage less what was stolen from it: a starved replica is slow in every stage."""
    seconds = sum(call.stage_s.get(stage, 0.0) for call in point.calls)
    if stage is not Cause.DOWNSTREAM:
        seconds *= sum(call.cpu_s for call in point.calls) / max(_own_s(point), 1e-12)
    return seconds / _total_s(point)


def _evidence(cause: Cause, point: Measured, service: Service) -> str:
    mean_items = float(np.mean([call.items for call in point.calls]))
    match cause:
        case Cause.ROUTER | Cause.SERIALISATION:
            part = point.router_s if cause is Cause.ROUTER else point.serialisation_s
            return f"{1e6 * part:,.0f} of {1e6 * service.gateway_s:,.0f} µs that the gateway works on a request"
        case Cause.BATCHING:
            fixed = service.fixed_s / service.call_s(mean_items, replicas=1)
            return f"calls carry {mean_items:.1f} items of at most {point.batch}; {fixed:.0%} of each is its fixed cost"
        case Cause.HOT_REPLICA:
            return f"the slowest of {len(service.slowness)} replicas takes {max(service.slowness):.1f} times the usual"
        case Cause.CPU_LIMIT:
            return f"{_stolen_share(point):.0%} of a call's time the replica waited for a CPU"
        case Cause.MEMORY:
            return f"{_stalled_share(point):.0%} of a call's time the replica waited for memory"
        case _:
            assert cause in STAGES
            seconds = sum(call.stage_s.get(cause, 0.0) for call in point.calls)
            items = sum(call.items for call in point.calls)
            return f"{1e3 * seconds / items:.2f} ms an item, {seconds / _total_s(point):.0%} of all calls"
