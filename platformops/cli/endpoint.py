"""Where the gateway of this platform answers, as `up` wrote it down."""

from __future__ import annotations

from platformops.store.records import Store

GATEWAY = "cluster/gateway"
"""Holds {"endpoint": "http://127.0.0.1:PORT"} while a gateway runs."""


def gateway_url(store: Store) -> str | None:
    """`http://host:port` without a path, or None when no gateway was started."""
    entry = store.get(GATEWAY)
    endpoint = entry.value.get("endpoint") if entry else None
    return str(endpoint).rstrip("/") if endpoint else None


def endpoint_of(store: Store, system: str) -> str | None:
    """Where images are posted to."""
    gateway = gateway_url(store)
    return f"{gateway}/{system}/predict" if gateway else None
