"""Readings that the gateway exports beside its own counts: the store, and this process."""

from __future__ import annotations

import os

import psutil

from platformops.clock import Clock
from platformops.errors import StoreError
from platformops.observation import metrics
from platformops.observation.metrics import Reading
from platformops.observation.platform_state import readings
from platformops.store.records import Store


def platform_readings(store: Store, clock: Clock) -> tuple[Reading, ...]:
    """What can be read now; without the store, that it is away."""
    begin_s = clock.monotonic()
    own = _process()
    try:
        read = readings(store, now=clock.now())
    except StoreError:
        return (*own, Reading(metrics.STORE_UP, 0.0))
    took = Reading(metrics.STORE_READ_SECONDS, clock.monotonic() - begin_s)
    return (*own, *read, Reading(metrics.STORE_UP, 1.0), took)


def _process() -> tuple[Reading, ...]:
    used = os.times()
    resident = psutil.Process().memory_info().rss
    return (
        Reading(metrics.GATEWAY_CPU_SECONDS, used.user + used.system),
        Reading(metrics.GATEWAY_RESIDENT_BYTES, float(resident)),
    )
