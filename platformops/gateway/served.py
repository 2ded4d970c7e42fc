"""What the gateway knows of the world: systems, routes and keys, as one value that is replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from platformops.delivery.records import System
from platformops.gateway.router import Routes, latest
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
    keys: tuple[Entry, ...] = ()
    """What the store holds under `key/`: hashes, scopes and systems."""


def limits_of(serve: Mapping[str, object]) -> ServeSpec:
    """The `serve` section as it was stored; keys of a newer version are refused, defaults are the spec's own."""
    return ServeSpec.model_validate_json(json.dumps(dict(serve)))


def renew(world: World, systems: Iterable[System], keys: Iterable[Entry]) -> World:
    """The world as the store tells it, except that no route goes back to an older token."""
    up = [system for system in systems if system.wanted == "up"]
    return World(
        systems={system.name: Served(system, limits_of(system.serve)) for system in up},
        routes=latest(world.routes, (system.route for system in up if system.route is not None)),
        keys=tuple(keys),
    )
