"""Which revision answers a request: weights in percent over a stable hash of the request's key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from platformops.delivery import split
from platformops.delivery.records import Route
from platformops.errors import StoreConflict

Routes = Mapping[str, Route]
"""System name -> where its requests go. Replaced as a whole, so that no request sees half of a change."""

WEIGHT_SUM_TOLERANCE = 1e-6


def is_sound(route: Route) -> bool:
    """Whether the weights are shares of 100 %."""
    weights = route.weights.values()
    return all(math.isfinite(w) and w >= 0 for w in weights) and abs(sum(weights) - 100.0) <= WEIGHT_SUM_TOLERANCE


def replace(routes: Routes, route: Route) -> Routes:
    """Routes with `route` in force; raises StoreConflict when a newer one is, ValueError for unsound weights.

    The same token again is the same decision, said twice: it changes nothing.
    """
    if not is_sound(route):
        raise ValueError(f"weights of {route.system} must be at least 0 and sum to 100 (got {dict(route.weights)})")
    present = routes.get(route.system)
    if present is not None and route.token < present.token:
        raise StoreConflict(
            f"route of {route.system} has token {route.token}, but {present.token} is already in force",
            remedy="read the system again and decide on what is there now",
        )
    if present is not None and route.token == present.token:
        return routes
    return {**routes, route.system: route}


def latest(routes: Routes, stored: Iterable[Route]) -> Routes:
    """Routes of exactly the systems in `stored`; what is newer than the store, or sound where the
    store is not, stays."""
    result: dict[str, Route] = {}
    for route in stored:
        present = routes.get(route.system)
        is_older = present is not None and present.token > route.token
        if present is not None and (is_older or not is_sound(route)):
            result[route.system] = present
        elif is_sound(route):
            result[route.system] = route
    return result


def choose(route: Route, key: str) -> str:
    """The revision that answers `key`."""
    return split.choose(route.weights, key)
