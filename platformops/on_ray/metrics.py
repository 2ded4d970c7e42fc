"""Readings that the gateway exports beside its own counts: what the store says."""

from __future__ import annotations

from platformops.clock import Clock
from platformops.errors import StoreError
from platformops.observation import metrics
from platformops.observation.metrics import Reading
from platformops.observation.platform_state import readings
from platformops.store.records import Store


def platform_readings(store: Store, clock: Clock) -> tuple[Reading, ...]:
    """What can be read now; without the store, that it is away."""
    begin_s = clock.monotonic()
    try:
        read = readings(store, now=clock.now())
    except StoreError:
        return (Reading(metrics.STORE_UP, 0.0),)
    took = Reading(metrics.STORE_READ_SECONDS, clock.monotonic() - begin_s)
    return (*read, Reading(metrics.STORE_UP, 1.0), took)
