"""What the gateway knows of the world: systems, routes and keys, as one value that is replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from platformops.delivery.records import System
from platformops.gateway.router import Routes, latest
from platformops.security.keys import KeyRing
from platformops.spec.types import ServeSpec
from platformops.store.records import Entry


@dataclass(frozen=True, slots=True)
class Served:
    """One system that takes requests."""

    system: System
    limits: ServeSpec


@dataclass(frozen=True, slots=True)
class World:
    systems: Mapping[str, Served] = field(default_factory=dict)
    routes: Routes = field(default_factory=dict)
    keys: KeyRing = field(default_factory=KeyRing)
    is_read: bool = False
    """Whether this came from the store; until then nobody can be let in."""


def limits_of(serve: Mapping[str, object]) -> ServeSpec:
    """The `serve` section as it was stored, its defaults the spec's own; raises ValueError for anything else."""
    return ServeSpec.model_validate_json(json.dumps(dict(serve)))


def renew(world: World, systems: Iterable[System], keys: Iterable[Entry]) -> World:
    """The world as the store tells it, except that no route goes back to an older token.

    A system whose record cannot be read keeps what it had: one bad record must not take the others down.
    """
    up = [system for system in systems if system.wanted == "up"]
    served = {system.name: _served(system) or world.systems.get(system.name) for system in up}
    return World(
        systems={name: one for name, one in served.items() if one is not None},
        routes=latest(world.routes, (system.route for system in up if system.route is not None)),
        keys=KeyRing(keys),
        is_read=True,
    )


def _served(system: System) -> Served | None:
    try:
        return Served(system, limits_of(system.serve))
    except ValueError:
        return None


def described(served: Served, weights: Mapping[str, float]) -> dict[str, object]:
    """What a client may know of a system, with the share of requests that each revision gets, in percent."""
    system, limits = served.system, served.limits
    return {
        "system": system.name,
        "revision": system.stable.name if system.stable else None,
        "model_version": system.stable.version_name if system.stable else None,
        "weights": dict(weights),
        "classes": list(system.classes),
        "limits": {
            "max_body_bytes": limits.max_body_bytes,
            "max_items": min(limits.max_items, limits.max_queue),
            "max_pixels": limits.max_pixels,
            "timeout_s": limits.timeout_s,
        },
    }
